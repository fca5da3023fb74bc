"""The one dialect of YAML in this package: YAML 1.2 without tags, of a bounded size.

`load_yaml` reads it, and `dump_yaml` writes it so that the same values are read back.
"""

import re
from typing import Any, NamedTuple

import yaml
from yaml.composer import ComposerError

MAX_CHARACTERS = 200_000
"""Largest YAML text accepted, in characters."""
MAX_VALUES = 20_000
"""Most values in a YAML text; an alias counts as all the values that it stands for."""
MAX_DEPTH = 20
"""Most levels of lists and mappings inside each other, those behind aliases included."""

YAML_TAG = "tag:yaml.org,2002:"


class _Scalar(NamedTuple):
    """The form of a plain scalar, one without quotes, that is not a string."""

    pattern: re.Pattern[str]
    first: list[str]
    """All characters that it can begin with: PyYAML tries only the patterns of the first one."""


PLAIN_SCALARS = {
    "null": _Scalar(re.compile(r"(~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "merge": _Scalar(re.compile(r"<<$"), ["<"]),
    "bool": _Scalar(re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": _Scalar(re.compile(r"[-+]?[0-9]+$"), list("-+0123456789")),
    "float": _Scalar(
        re.compile(
            r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)"
            r"|\.(nan|NaN|NAN))$"
        ),
        list("-+.0123456789"),
    ),
}
"""The plain scalars of YAML 1.2 that are not strings, by the name of their type."""


class _Size(NamedTuple):
    """The size of a value in a YAML text; an alias counts as what it stands for."""

    values: int
    depth: int


class _Loader(yaml.SafeLoader):
    """Reads the scalars of YAML 1.2, refuses tags, and counts values before it makes them.

    PyYAML's own rules are those of YAML 1.1. There `yes`, `no`, `on` and `off` are truth values, so
    a label `yes` would be True; `1e-3` is a string, since it has no point; `010` is 8, `12:30` is
    750, and there are dates.

    Ten lines of aliases to aliases can stand for more values than fit into memory once something
    walks through them, so each alias counts as all values that it stands for.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, _Size] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise _refusal(
                event, "tags are not supported; to write a number as text, put it in quotes"
            )
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _refusal(event, f"more than {MAX_DEPTH} levels of lists or mappings")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not isinstance(event, yaml.AliasEvent):
            self._sizes[id(node)] = self._size(node)
        elif id(node) not in self._sizes:
            raise _refusal(event, "an alias inside the value that it stands for")
        size = self._sizes[id(node)]
        if max(size.values, len(self._sizes)) > MAX_VALUES or size.depth > MAX_DEPTH:
            problem = f"more than {MAX_VALUES:,} values, or {MAX_DEPTH} levels of them"
            raise _refusal(event, problem)
        return node

    def _size(self, node: yaml.Node | None) -> _Size:
        """Return the size of a value, from those of the values in it."""
        inside: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inside = node.value
        elif isinstance(node, yaml.MappingNode):
            inside = [member for pair in node.value for member in pair]
            keys: set[tuple[str, str]] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in keys:
                    raise _refusal(key, f"{key.value!r} is given twice")
                keys.add((key.tag, str(key.value)))
        elif isinstance(node, yaml.ScalarNode):
            node.value.encode("utf-8")  # half of a surrogate pair could not be written to any file
        sizes = [self._sizes[id(member)] for member in inside]
        return _Size(1 + sum(s.values for s in sizes), 1 + max((s.depth for s in sizes), default=0))


def _refusal(place: Any, problem: str) -> ComposerError:
    """Return an error that names the line and column of an event or node."""
    return ComposerError(None, None, problem, place.start_mark)


class _Dumper(yaml.SafeDumper):
    """Quotes each string that `_Loader`, or a reader of YAML 1.1, would take for another type."""

    def represent_str(self, text: str) -> yaml.ScalarNode:
        # Outside double quotes, these line ends are read as a space or as another line end.
        style = '"' if re.search("[\x85\u2028\u2029]", text) else None
        return self.represent_scalar(YAML_TAG + "str", text, style)


_Loader.yaml_implicit_resolvers = {}
for _name, _scalar in PLAIN_SCALARS.items():
    _Loader.add_implicit_resolver(YAML_TAG + _name, *_scalar)
    _Dumper.add_implicit_resolver(YAML_TAG + _name, *_scalar)
_Dumper.add_representer(str, _Dumper.represent_str)
_Loader.add_constructor(YAML_TAG + "int", lambda _, node: int(node.value))


def load_yaml(text: str) -> Any:
    """Return the value that a YAML text holds.

    Raises:
        yaml.YAMLError: if it is not valid, or larger than MAX_CHARACTERS, MAX_VALUES or MAX_DEPTH
            allow.
    """
    if len(text) > MAX_CHARACTERS:
        raise yaml.YAMLError(f"longer than {MAX_CHARACTERS:,} characters")
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except ValueError as error:  # half a surrogate pair, or a number with thousands of digits
        raise yaml.YAMLError(str(error)) from error


def dump_yaml(values: Any) -> str:
    """Return a YAML text that `load_yaml` reads as the same values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
