"""One thing that is wrong with a resource, in words a person can act on."""

import difflib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic import ValidationError

Path = tuple[str | int, ...]

LONGEST_QUOTE: Final = 60
PYDANTIC_PREFIX: Final = "Value error, "
"""What pydantic puts before a sentence that a check of our own, or of a library, ended with."""


@dataclass(frozen=True)
class Problem:
    """Where something is wrong, what, and what to do about it."""

    path: Path
    message: str
    hint: str = ""

    @property
    def where(self) -> str:
        """The path as a person writes it: `spec.datasets[0].source`."""
        parts = (f"[{part}]" if isinstance(part, int) else f".{printable(part)}" for part in self.path)
        return "".join(parts).lstrip(".")

    def __str__(self) -> str:
        where = f"{self.where}: " if self.path else ""
        return f"{where}{self.message}" + (f" ({self.hint})" if self.hint else "")


def first_fault(error: "ValidationError") -> tuple[str, str]:
    """Where pydantic found the first fault, like `files.0.path`, and what it is. No value is repeated."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return ".".join(map(str, first["loc"])), first["msg"].removeprefix(PYDANTIC_PREFIX)


def suggestion(word: str, options: list[str]) -> str:
    """The option that was probably meant, or nothing."""
    lowered = {option.lower(): option for option in options}
    close = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.7)
    return f"did you mean {lowered[close[0]]}?" if close else ""


def display_value(value: Any) -> str:
    """A value as YAML would give it, on one line and not too long; containers by their kind."""
    match value:
        case dict():
            return "an object"
        case list():
            return "a list"
        case str():
            return f'"{printable(value)}"'
        case _:
            return json.dumps(value)


def printable(text: str) -> str:
    """The start of a text, without anything that a terminal would obey."""
    short = text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}…"
    return "".join(char if char.isprintable() else _escaped(char) for char in short)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()
