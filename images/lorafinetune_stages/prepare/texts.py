"""Checks every single text for what can't be learned from, or would be learned as something else."""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, datetime
from typing import Any, AnyStr, Final

import orjson

from lorafinetune_stages.prepare.findings import Kind, RowError

FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and lone surrogates: a search that most texts are spared, since they are printable."""
FORBIDDEN_JSON: Final = ((b"\x7f", rb"\x7f"), (b"\xc2", rb"\xc2[\x80-\x9f]"))
"""The same in JSON, where it is not escaped; each with its first byte."""
SELECTORS: Final = ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
"""The first and last of what only chooses the form of the character before it."""
BLANKS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(code) for first, last in SELECTORS for code in range(first, last + 1)
}
"""What no one sees, though Unicode has it for a letter, a mark or a symbol: such as fillers of Hangul, vowels
of Khmer that are not written, and Braille without a dot."""
TYPE_NAMES: Final = {
    dict: "an object",
    list: "a list",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a text",
    bytes: "binary data",
    datetime: "a time",
    date: "a date",
    type(None): "null",
}


def type_name(value: Any) -> str:
    """What a value of JSON or of a table is, in words."""
    name = type(value).__name__
    return "NaN" if value != value else TYPE_NAMES.get(type(value), f"a value of the type {name}")


def require_list(row: Mapping[str, Any], field: str, what: str) -> list[Any]:
    """The list in a field. what: is in it, for messages. Raises RowError."""
    if field not in row:
        raise RowError(Kind.MISSING_FIELD, field, "is missing")
    items = row[field]
    if not isinstance(items, list):
        raise RowError(Kind.WRONG_TYPE, field, f"is {type_name(items)}, not a list of {what}")
    return items


class Texts:
    """Takes texts out of rows, and refuses what is none or has what no text may have.

    special_tokens: texts that the tokenizer turns into a token of the template, like `<|im_end|>`: a
    row that holds one could end its turn early, or speak for somebody else.
    """

    def __init__(self, special_tokens: Collection[str]) -> None:
        longest_first = sorted(filter(None, special_tokens), key=lambda token: (-len(token), token))
        self._tokens = _by_start(((token[0], re.escape(token)) for token in longest_first), "|".join)
        encoded = [orjson.dumps(token)[1:-1] for token in longest_first]
        self._odd = _by_start(
            [*FORBIDDEN_JSON, *((token[:1], re.escape(token)) for token in encoded)], b"|".join
        )

    def may_refuse(self, data: bytes) -> bool:
        """Whether JSON without odd escapes may hold a text that is refused: most does not, and that is told
        fast."""
        return any(start in data and pattern.search(data) for start, pattern in self._odd)

    def text(self, value: Any, field: str) -> str:
        """The text; empty for null. Raises RowError."""
        if value is None:
            return ""
        if not isinstance(value, str):
            raise RowError(Kind.WRONG_TYPE, field, f"is {type_name(value)}, not a text")
        for start, tokens in self._tokens:
            if start in value and (token := tokens.search(value)):
                raise RowError(Kind.SPECIAL_TOKEN, field, f"the text has the special token {token.group()!a}")
        if not value.replace("\n", "").isprintable() and (found := FORBIDDEN.search(value)):
            raise _forbidden(found.group(), field, found.start())
        return value

    def answer(self, value: Any, field: str) -> str:
        """An answer, which must be there and say something. Raises RowError."""
        if value is None:
            raise RowError(Kind.NO_ANSWER, field, "the answer is missing")
        return require_text(self.text(value, field), Kind.EMPTY_ANSWER, field, "the answer is empty")

    def prompt(self, value: Any, field: str) -> str:
        """A human turn, which must say something. Raises RowError."""
        return require_text(self.text(value, field), Kind.EMPTY_PROMPT, field, "the prompt is empty")


def require_text(text: str, kind: Kind, field: str, what: str) -> str:
    """The text. Raises RowError where it is nothing but white space and characters that no one sees."""
    if all(map(_is_blank, text.strip())):
        raise RowError(kind, field, what)
    return text


def _is_blank(character: str) -> bool:
    return character.isspace() or character in BLANKS or unicodedata.category(character) == "Cf"


def _forbidden(character: str, field: str, position: int) -> RowError:
    if "\ud800" <= character <= "\udfff":
        return RowError(Kind.LONE_SURROGATE, field, f"character {position} is a lone surrogate")
    return RowError(Kind.CONTROL_CHARACTER, field, f"character {position} is U+{ord(character):04X}")


def _by_start(
    patterns: Iterable[tuple[AnyStr, AnyStr]], join: Callable[[list[AnyStr]], AnyStr]
) -> list[tuple[AnyStr, re.Pattern[AnyStr]]]:
    """One pattern for all that have the same start, which is looked for first, because that is fast."""
    found: dict[AnyStr, list[AnyStr]] = {}
    for start, pattern in patterns:
        found.setdefault(start, []).append(pattern)
    return [(start, re.compile(join(same))) for start, same in found.items()]
