"""The one dialect of YAML in this package: YAML 1.2 without tags, of a bounded size.

`load_yaml` reads it, and `dump_yaml` writes it so that the same values are read back.
"""

import re
from typing import Any, NamedTuple

import yaml
from yaml.composer import ComposerError
from yaml.scanner import ScannerError

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


SPACE_MISSING = "a space is missing after a colon: write"
PROBLEMS = {
    r"found character '\\t'": "a tab begins the line or a value; indent with spaces",
    r"found character '.' that cannot start": "a text that begins with @, % or ` needs quotes",
    r"mapping values are not allowed": "a field where none can be: is the indentation that of the "
    "lines above? A text that holds a colon and a space needs quotes",
    r"expected <block end>, but found '<": "the indentation is not that of the lines above",
    r"quoted scalar found unexpected end": "a quotation mark is not closed",
    r"flow \w+ expected ',' or '.', but got '<stream end>'": "a bracket is not closed",
    r"flow \w+ expected ',' or '.', but got ": "a comma is missing, or a bracket is not closed",
}
"""What a mistake is in the user's words, by a pattern of what PyYAML says."""


class _Size(NamedTuple):
    """The size of a value in a YAML text; an alias counts as what it stands for."""

    values: int
    depth: int


class _Loader(yaml.SafeLoader):
    """Reads the scalars of YAML 1.2, refuses tags, and counts values before it makes them.

    PyYAML's own rules are those of YAML 1.1. There `yes`, `no`, `on` and `off` are truth values, so
    a label `yes` would be True; `1e-3` is a string, since it has no point; `010` is 8, `12:30` is
    750, and there are dates. Keys are text, whatever they look like.

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

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping whose keys are what was written: `1.0`, `TRUE` and `null` may be labels.

        Only `<<` is no key: it puts the fields of another mapping here.
        """
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep) for key, value in node.value}

    def _size(self, node: yaml.Node | None) -> _Size:
        """Return the size of a value, from those of the values in it."""
        inside: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inside = node.value
        elif isinstance(node, yaml.MappingNode):
            inside = [member for pair in node.value for member in pair]
            _check_keys(node)
        elif isinstance(node, yaml.ScalarNode):
            node.value.encode("utf-8")  # half of a surrogate pair could not be written to any file
        sizes = [self._sizes[id(member)] for member in inside]
        return _Size(1 + sum(s.values for s in sizes), 1 + max((s.depth for s in sizes), default=0))


def _check_keys(mapping: yaml.MappingNode) -> None:
    """Refuse keys that are no text, are given twice, or lack a space behind their colon."""
    keys: set[str] = set()
    for key, value in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _refusal(key, "a key is a list or a mapping; a text is needed")
        if key.value in keys:
            raise _refusal(key, f"{key.value!r} is given twice")
        keys.add(key.value)
        is_empty = isinstance(value, yaml.ScalarNode) and not value.value and not value.style
        if is_empty and not key.style and (pair := with_space(key.value)):
            raise _refusal(key, f"{SPACE_MISSING} {{{pair}}}")


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
    """Return the value that a YAML text holds; the keys of its mappings are text.

    Raises:
        yaml.YAMLError: if it is not valid, or larger than MAX_CHARACTERS, MAX_VALUES or MAX_DEPTH
            allow. Its message is one line, which names the line of a text that has several.
    """
    if len(text) > MAX_CHARACTERS:
        raise yaml.YAMLError(f"longer than {MAX_CHARACTERS:,} characters")
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        raise yaml.YAMLError(_in_a_line(error, text)) from error
    except ValueError as error:  # half a surrogate pair, or a number with thousands of digits
        raise yaml.YAMLError(str(error)) from error


def dump_yaml(values: Any) -> str:
    """Return a YAML text that `load_yaml` reads as the same values, if all keys are text."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def with_space(text: str) -> str | None:
    """Return a text such as `epochs:3` as the field that was meant, or None for any other text."""
    found = re.fullmatch(r"([A-Za-z_][\w.-]*):([^\s:/\\].*)", text)
    return f"{found[1]}: {found[2]}" if found else None


def _in_a_line(error: yaml.MarkedYAMLError, text: str) -> str:
    """Return what is wrong with a YAML text, in the user's words where that is known."""
    problem = " ".join(filter(None, [error.context, error.problem]))
    place = error.problem_mark or error.context_mark
    line = place.line if place else 0
    for pattern, meaning in PROBLEMS.items():
        if re.search(pattern, problem):
            problem = meaning
            if error.context_mark and "closed" in meaning:  # where it is opened
                line = error.context_mark.line
            break
    lines = text.split("\n")
    for number in range(line, max(-1, line - 2), -1):
        # PyYAML sees a text, and is surprised by the field that comes after it.
        words = lines[number].strip().removeprefix("- ") if number < len(lines) else ""
        if isinstance(error, ScannerError) and (pair := with_space(words)):
            line, problem = number, f"{SPACE_MISSING} {pair}"
    return f"line {line + 1}: {problem}" if len(lines) > 1 else problem
