"""YAML 1.2 within bounds, read safely and written so that the same values are read back."""

import re
from typing import Any, NamedTuple

import yaml
from yaml.composer import ComposerError

MAX_CHARACTERS = 200_000
"""Of a YAML text."""
MAX_VALUES = 20_000
"""In a YAML text, with what its aliases stand for."""
MAX_DEEP = 20
"""Lists and mappings inside each other in a YAML text, aliases too."""

YAML_TAG = "tag:yaml.org,2002:"
PLAIN = {
    "null": (re.compile(r"(~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "merge": (re.compile(r"<<$"), ["<"]),
    "bool": (re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": (re.compile(r"[-+]?[0-9]+$"), list("-+0123456789")),
    "float": (
        re.compile(
            r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)"
            r"|\.(nan|NaN|NAN))$"
        ),
        list("-+.0123456789"),
    ),
}
"""How YAML 1.2 writes what is no text, and what that begins with."""


class _Size(NamedTuple):
    """Of a value in a YAML text, with what its aliases stand for."""

    values: int
    depth: int


class _Loader(yaml.SafeLoader):
    """YAML with the truth values and numbers of YAML 1.2, without tags, and within bounds.

    In YAML 1.1 `yes`, `no`, `on` and `off` are truth values, so a label `yes` would be read as
    True; `1e-3` is a text, since it has no point; `010` is 8, `12:30` is 750, and there are dates.

    Ten lines of aliases to aliases can stand for more values than fit into memory, once something
    walks through them; so all are counted where they stand.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, _Size] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise _refusal(event, "tags are not read; a number in quotes is text")
        self._depth += 1
        if self._depth > MAX_DEEP:
            raise _refusal(event, f"more than {MAX_DEEP} lists or mappings inside each other")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not isinstance(event, yaml.AliasEvent):
            self._sizes[id(node)] = self._size(node)
        elif id(node) not in self._sizes:
            raise _refusal(event, "an alias within what it stands for")
        size = self._sizes[id(node)]
        if max(size.values, len(self._sizes)) > MAX_VALUES or size.depth > MAX_DEEP:
            problem = f"more than {MAX_VALUES:,} values, or {MAX_DEEP} inside each other"
            raise _refusal(event, problem)
        return node

    def _size(self, node: yaml.Node | None) -> _Size:
        inside: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inside = node.value
        elif isinstance(node, yaml.MappingNode):
            inside = [one for pair in node.value for one in pair]
            keys: set[tuple[str, str]] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in keys:
                    raise _refusal(key, f"{key.value!r} is there twice")
                keys.add((key.tag, str(key.value)))
        elif isinstance(node, yaml.ScalarNode):
            node.value.encode("utf-8")  # half a character could be written nowhere
        sizes = [self._sizes[id(one)] for one in inside]
        return _Size(1 + sum(s.values for s in sizes), 1 + max((s.depth for s in sizes), default=0))


def _refusal(place: Any, problem: str) -> ComposerError:
    return ComposerError(None, None, problem, place.start_mark)


class _Dumper(yaml.SafeDumper):
    """Puts in quotes what the loader, or another reader of YAML, would not take for text."""

    def represent_str(self, text: str) -> yaml.ScalarNode:
        # Outside of double quotes these line ends are read as a space, or as another.
        style = '"' if re.search("[\x85\u2028\u2029]", text) else None
        return self.represent_scalar(YAML_TAG + "str", text, style)


_Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first) in PLAIN.items():
    _Loader.add_implicit_resolver(YAML_TAG + _name, _pattern, _first)
    _Dumper.add_implicit_resolver(YAML_TAG + _name, _pattern, _first)
_Dumper.add_representer(str, _Dumper.represent_str)
_Loader.add_constructor(YAML_TAG + "int", lambda _, node: int(node.value))


def load_yaml(text: str) -> Any:
    """Return what a YAML text says.

    Raises:
        yaml.YAMLError: if it says nothing that can be read, or more than MAX_CHARACTERS,
            MAX_VALUES or MAX_DEEP allow.
    """
    if len(text) > MAX_CHARACTERS:
        raise yaml.YAMLError(f"longer than {MAX_CHARACTERS:,} characters")
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except ValueError as error:  # half a character, or a number with thousands of digits
        raise yaml.YAMLError(str(error)) from error


def dump_yaml(values: Any) -> str:
    """Return a YAML text that `load_yaml` reads as the same values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
