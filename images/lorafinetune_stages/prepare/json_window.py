"""A window that slides over the text of a JSON list, and knows the place of whatever is in it."""

import codecs
import json
import re
from typing import Any, BinaryIO, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.findings import Place
from lorafinetune_stages.prepare.json_decoder import Decoder, what_is_wrong
from lorafinetune_stages.store import Advance

MAX_ROW_BYTES: Final = 16 * 2**20
CHUNK_BYTES: Final = 2**20
TOO_LARGE_HINT: Final = (
    "Shorten the row or take it out; or write JSON Lines, in which `onBadRow: skip` leaves such a row out."
)
SPACES: Final = re.compile(r"[ \t\r\n]*")
UNFINISHED: Final = 16
"""An error this near to the end of the window may be a value that is cut there."""


class JsonWindow:
    """start: the byte at which `file` stands. Raises StageError(DatasetInvalid) with the place."""

    def __init__(self, file: BinaryIO, name: str, start: int, advance: Advance) -> None:
        self._file = file
        self._name = name
        self._advance = advance
        self._decoder = Decoder()
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._byte = start
        self._counted = 0
        self._line = 1
        self._column = 0

    @property
    def line(self) -> int:
        """The line of what comes next, counted from 1."""
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def value(self, index: int) -> Any:
        """The next value; index: its number in the list, for messages."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as problem:
                if not self._may_be_unfinished(problem) or not self._grow(index):
                    raise self._broken(self._at_end(problem, index), problem.pos) from problem
            except RecursionError as problem:
                raise self._broken("the row is nested too deep", self._at) from problem
            except ValueError as problem:
                raise self._broken("a number has more digits than can be read", self._at) from problem
            else:
                self._check_size(end, index)
                if end < len(self._text) or not self._grow(index):
                    self._at = end
                    return value

    def skip_space(self) -> None:
        self.peek()

    def peek(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            self._at = SPACES.match(self._text, self._at).end()  # type: ignore[union-attr]  # it may be empty
            if self._at < len(self._text) or not self._grow():
                return self._text[self._at : self._at + 1]

    def take(self, expected: str) -> str:
        """The next character, which must be one of `expected`."""
        character = self.peek()
        if not character:
            raise self._broken("the file ends before the list does", self._at)
        if character not in expected:
            raise self._broken(f"expected {' or '.join(map(repr, expected))}", self._at)
        self._at += 1
        return character

    def expect_end(self) -> None:
        if self.peek():
            raise self._broken("there is more after the end of the list", self._at)

    def _may_be_unfinished(self, problem: json.JSONDecodeError) -> bool:
        return problem.msg.startswith("Unterminated") or problem.pos >= len(self._text) - UNFINISHED

    def _at_end(self, problem: json.JSONDecodeError, index: int) -> str:
        ends = problem.msg.startswith("Unterminated") or problem.pos >= len(self._text.rstrip())
        return what_is_wrong(problem) + (f", and the file ends inside of row [{index}]" if ends else "")

    def _grow(self, index: int | None = None) -> bool:
        """Reads on, and forgets what was taken. False, with nothing changed, at the end of the file."""
        if index is not None:
            self._check_size(len(self._text), index)
        chunk = self._file.read(max(CHUNK_BYTES, len(self._text) - self._at))
        try:
            more = self._utf8.decode(chunk, final=not chunk)
        except UnicodeDecodeError as problem:
            raise self._not_utf8(problem) from problem
        if chunk:
            self._advance(len(chunk))
            self._forget()
            self._text += more
        return bool(chunk)

    def _check_size(self, end: int, index: int) -> None:
        if end - self._at > MAX_ROW_BYTES:
            place = Place(self._name, self.line, index)
            what = f"{place}: the row has more than {MAX_ROW_BYTES} bytes"
            raise StageError(Reason.DATASET_INVALID, what, TOO_LARGE_HINT)

    def _forget(self) -> None:
        taken = self._text[: self._at]
        self._line = self.line
        self._column = _characters_after_line_end(taken, self._column)
        self._byte += len(taken.encode())
        self._text = self._text[self._at :]
        self._at = self._counted = 0

    def _not_utf8(self, problem: UnicodeDecodeError) -> StageError:
        self._text += problem.object[: problem.start].decode()
        return self._broken("not valid UTF-8", len(self._text))

    def _broken(self, what: str, position: int) -> StageError:
        before = self._text[:position]
        line = self._line + before.count("\n", self._counted)
        column = _characters_after_line_end(before, self._column) + 1
        place = Place(self._name, line, None, column, self._byte + len(before.encode()))
        return StageError(
            Reason.DATASET_INVALID,
            f"{place}: broken JSON: {what}",
            "Mend the file at this place: what follows in the list can't be read.",
        )


def _characters_after_line_end(text: str, before: int) -> int:
    """Characters since the last end of a line; `before` is their number ahead of the text."""
    last = text.rfind("\n")
    return len(text) - last - 1 if last >= 0 else before + len(text)
