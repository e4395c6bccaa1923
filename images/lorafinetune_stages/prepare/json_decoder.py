"""JSON as the standard library reads it, except that an object may not give a key twice: the library silently
keeps the last value, and nobody knows which one was meant."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from lorafinetune_stages.prepare.findings import Kind, RowError, printable_start

Scan = Callable[[str, int], tuple[Any, int | None]]
"""A value from a place on, and where it ends. Raises StopIteration where there is none."""


def what_is_wrong(problem: json.JSONDecodeError) -> str:
    """Without the words that announce the place, which is told before."""
    if problem.msg == "Expecting value" and problem.doc.startswith("]", problem.pos):
        return "a comma before the end of a list"
    return problem.msg.removesuffix(" at").removesuffix(" starting")


class Decoder:
    """Decodes rows. A row with a key given twice is a RowError in its place."""

    def __init__(self) -> None:
        self._twice: tuple[str, dict[str, Any]] | None = None
        self._json = json.JSONDecoder(object_pairs_hook=self._object)
        self._scan: Scan = self._json.scan_once  # type: ignore[attr-defined]  # what all of json rests on

    def decode(self, text: str) -> Any:
        """The row in a text of nothing else. Raises what `json.loads` does."""
        self._twice = None
        try:
            row, end = self._scan(text, 0)
        except StopIteration:
            end = None
        if end != len(text):
            row = self._json.decode(text)  # there is space around it; or this says what is wrong
        return self._checked(row)

    def raw_decode(self, text: str, at: int) -> tuple[Any, int]:
        """The row at a place, and where it ends."""
        self._twice = None
        row, end = self._json.raw_decode(text, at)
        return self._checked(row), end

    def _checked(self, row: Any) -> Any:
        if not self._twice:
            return row
        name, found = self._twice
        field = f"{_path(found, row)}.{printable_start(name)}".removeprefix(".")
        return RowError(Kind.BROKEN_JSON, field, "the field is given twice")

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs) and not self._twice:
            self._twice = _first_repeated(name for name, _ in pairs), found
        return found


def _first_repeated(names: Iterable[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _path(found: dict[str, Any], row: Any) -> str:
    """Where in the row the object is, like `.messages[0]`; empty for the row itself."""
    waiting: list[tuple[str, Any]] = [("", row)]
    while waiting:
        path, value = waiting.pop()
        if value is found:
            return path
        match value:
            case dict():
                waiting += [(f"{path}.{printable_start(name)}", child) for name, child in value.items()]
            case list():
                waiting += [(f"{path}[{index}]", child) for index, child in enumerate(value)]
    return ""
