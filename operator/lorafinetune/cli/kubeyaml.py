"""YAML as kubectl reads it, with the line of every field, and written so that kubectl reads it back.

The parser is libyaml, of which kubectl's is a translation. PyYAML would read the parsed text as another
dialect, though: in that, `1e-4` and `y` are strings, and `1:30` is ninety.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, cast

import yaml
from yaml.composer import ComposerError

from lorafinetune.api.problem import Path, Problem

DEEPEST: Final = 100
BUDGET: Final = 1_500_000
"""Most characters that a document may have as JSON, once its aliases are followed."""
PUNCTUATION: Final = 3
"""Quotes and comma around each of its values."""

PLAIN: Final = "plain"
STRING: Final = "tag:yaml.org,2002:str"
TAGS: Final = {PLAIN, STRING, "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"}
WORDS: Final = {
    word: value
    for value, names in (
        (None, ("~", "null")),
        (True, ("y", "yes", "true", "on")),
        (False, ("n", "no", "false", "off")),
    )
    for name in names
    for word in (name, name.title(), name.upper())
} | {"": None}
INTEGER: Final = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))")
BASES: Final = (16, 2, 8, 10)
LONGEST_INTEGER: Final = 70
DECIMAL: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
SPECIAL: Final = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
FORBIDDEN: Final = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"  # what YAML calls unprintable
)

WHERE_TO_LOOK: Final = "mend what stands there, or a bracket, quote or indentation above it"


class YamlError(Exception):
    """A text that can't be read, and where: line and column count from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.line, self.column = line, column


@dataclass(frozen=True)
class Document:
    """One YAML document as JSON types, the line of every field, and what is wrong with the YAML."""

    value: Any
    lines: dict[Path, int]
    problems: list[Problem]

    def line(self, path: Path) -> int:
        """The line of a field, or of the nearest one around it."""
        return next(self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines)


def parse(text: str) -> list[Document]:
    """The documents of a text but for empty ones. Raises YamlError."""
    if found := FORBIDDEN.search(text):
        raise _error_at(text, found.start(), f"the character U+{ord(found[0]):04X} is not allowed")
    try:
        nodes = list(_nodes(text))
    except yaml.MarkedYAMLError as problem:
        raise _syntax_error(text, problem) from None
    return [document for node in nodes if (document := _Reader().document(node)).value is not None]


def plain(text: str) -> Any:
    """What a scalar without quotes and tag is: nothing, a boolean, a number or a string."""
    if text in WORDS:
        return WORDS[text]
    if found := SPECIAL.fullmatch(text):
        return float("nan" if found[3] else f"{found[1]}inf")
    digits = text.replace("_", "") if text[:1] in set("-+0123456789") else text
    if (integer := _integer(digits)) is not None:
        return integer
    if DECIMAL.fullmatch(digits) and float(digits) not in (float("inf"), -float("inf")):
        return float(digits)
    return text


def dump(value: Any) -> str:
    """A value of JSON types as YAML."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Quotes what `plain` would take for something else than a string."""

    def string(self, text: str) -> yaml.ScalarNode:
        style = None if isinstance(plain(text), str) else '"'
        return self.represent_scalar(STRING, text, style)


_Dumper.add_representer(str, _Dumper.string)


class _Composer(yaml.CSafeLoader):
    """Tells plain scalars from quoted ones, and resolves nothing itself."""

    yaml_implicit_resolvers = {None: [(PLAIN, re.compile(""))]}


def _nodes(text: str) -> Iterator[yaml.Node]:
    composer = _Composer(text)
    try:
        while composer.check_node():
            yield cast(yaml.Node, composer.get_node())
    finally:
        composer.dispose()


def _integer(text: str) -> int | None:
    """The value of an integer, if 64 bits can hold it."""
    found = INTEGER.fullmatch(text)
    if found is None or len(text) > LONGEST_INTEGER:
        return None
    sign, *spellings = found.groups()
    value = next(
        int(f"{sign}{digits}", base) for digits, base in zip(spellings, BASES, strict=True) if digits
    )
    return value if -(2**63) <= value < 2**64 else None


@dataclass
class _Reader:
    """Turns one document's nodes into JSON types, within bounds that no alias can break."""

    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _open: set[int] = field(default_factory=set)
    _left: int = BUDGET

    def document(self, node: yaml.Node) -> Document:
        return Document(self._value(node, ()), self.lines, self.problems)

    def _value(self, node: yaml.Node, at: Path) -> Any:
        self.lines.setdefault(at, _line(node))
        self._spend(node)
        if node.tag not in TAGS:
            self.problems.append(Problem(at, f"the tag {_tag(node)} is not supported"))
        if isinstance(node, yaml.ScalarNode):
            return plain(node.value) if node.tag == PLAIN else node.value
        self._enter(node)
        value = self._list(node, at) if isinstance(node, yaml.SequenceNode) else self._mapping(node, at)
        self._open.remove(id(node))
        return value

    def _list(self, node: yaml.SequenceNode, at: Path) -> list[Any]:
        return [self._value(item, (*at, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.Node, at: Path) -> dict[str, Any]:
        value: dict[str, Any] = {}
        given: dict[str, int] = {}
        for key, child in node.value:
            if key.tag == PLAIN and key.value == "<<":
                value |= self._merged(child, at)
            elif (name := self._name(key, at)) is not None:
                self._note_repetition(name, _line(key), given, at)
                self.lines[(*at, name)] = _line(key)
                value[name] = self._value(child, (*at, name))
        return value

    def _merged(self, node: yaml.Node, at: Path) -> dict[str, Any]:
        """The fields that `<<` brings; of several mappings the first wins."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        value: dict[str, Any] = {}
        for source in reversed(sources):
            if not isinstance(source, yaml.MappingNode):
                raise _error(source, "<< needs a mapping, or a list of mappings")
            value |= self._value(source, at)
        return value

    def _name(self, key: yaml.Node, at: Path) -> str | None:
        """The key as a string: kubectl takes `1` and `true` as `"1"` and `"true"`."""
        self._spend(key)
        value = plain(key.value) if key.tag == PLAIN else key.value
        match value:
            case str():
                return value
            case bool() | int():
                return str(value).lower()
            case float():
                return f"{value:g}"
        raise _error(key, "a field's name must be a string")

    def _note_repetition(self, name: str, line: int, given: dict[str, int], at: Path) -> None:
        if name in given:
            twice = f"is given twice, on lines {given[name]} and {line}"
            self.problems.append(Problem((*at, name), twice, "keep one of them"))
        given.setdefault(name, line)

    def _spend(self, node: yaml.Node) -> None:
        self._left -= PUNCTUATION + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
        if self._left < 0:
            raise _error(node, f"holds more than {BUDGET} characters once its aliases are followed")

    def _enter(self, node: yaml.Node) -> None:
        if id(node) in self._open:
            raise _error(node, "an alias refers to what it is part of")
        if len(self._open) >= DEEPEST:
            raise _error(node, f"is nested more than {DEEPEST} levels deep")
        self._open.add(id(node))


def _line(node: yaml.Node) -> int:
    return _position(node.start_mark)[0]


def _position(mark: yaml.Mark | None) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _tag(node: yaml.Node) -> str:
    return str(node.tag).replace("tag:yaml.org,2002:", "!!")


def _error(node: yaml.Node, message: str) -> YamlError:
    return YamlError(message, *_position(node.start_mark))


def _error_at(text: str, offset: int, message: str) -> YamlError:
    before = text[:offset]
    return YamlError(message, before.count("\n") + 1, offset - before.rfind("\n"))


def _syntax_error(text: str, problem: yaml.MarkedYAMLError) -> YamlError:
    lines = text.split("\n")
    line, column = _position(problem.problem_mark)
    line = min(line, len(lines))
    if lines[line - 1].lstrip(" ").startswith("\t"):
        return YamlError("not valid YAML: a tab can't indent; use spaces", line, column)
    return YamlError(f"not valid YAML: {_reworded(problem, line)}", line, column)


def _reworded(problem: yaml.MarkedYAMLError, line: int) -> str:
    """libyaml's words, and where the thing began that it could not read to its end."""
    begins = _position(problem.context_mark)[0]
    if isinstance(problem, ComposerError) and problem.context:
        return f"an anchor is defined twice, first on line {begins}"
    context = f" {problem.context} that begins on line {begins}" if problem.context and begins < line else ""
    return f"{problem.problem}{context}" + (
        "" if isinstance(problem, ComposerError) else f" ({WHERE_TO_LOOK})"
    )
