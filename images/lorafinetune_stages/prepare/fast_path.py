"""The fast way for lines of JSON into the corpus, for lines in which nothing is out of the ordinary.

They are kept as they stand, and decoded again when they are needed.

orjson reads a line as the standard library does or refuses it, except for names that are given twice: those
show in the number of quotes. A line that is not taken here goes the careful way, which tells what is wrong,
and where.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import orjson

from lorafinetune_stages.prepare.conversation import Packed
from lorafinetune_stages.prepare.findings import Place
from lorafinetune_stages.prepare.fingerprints import Marks
from lorafinetune_stages.prepare.json_window import MAX_ROW_BYTES
from lorafinetune_stages.prepare.lines import Lines, Stretch, line_blocks, lines_of, skip_line
from lorafinetune_stages.prepare.plain import NOT_PLAIN, Pack
from lorafinetune_stages.store import ignore_progress

QUOTE: Final = ord('"')
BACKSLASH: Final = ord("\\")
LINE_END: Final = ord("\n")
PLAIN_ESCAPES: Final = rb'"\nrt'
STRETCH_BYTES: Final = 2**20

Part = Lines | tuple[Stretch, Marks]
"""Lines that are not taken, or where rows are that were, and what is known of them."""


class FastPath:
    """system: takes the place of the rows' own. may_refuse: whether JSON of texts may hold what no text may
    have. name: the file's, in messages."""

    def __init__(
        self, pack: Pack, system: str | None, may_refuse: Callable[[bytes], bool], path: Path, name: str
    ) -> None:
        self._pack = pack
        self._system = system
        self._may_refuse = may_refuse
        self._path = path
        self._file = str(Place(name, None))

    def stretches(self, file: BinaryIO, start: int) -> Iterator[Stretch]:
        """All of the file, from a byte on."""
        number, offset = 1, start
        file.seek(start)
        while data := file.read(STRETCH_BYTES):
            whole = data.endswith(b"\n")
            size = len(data) + (0 if whole else skip_line(file))
            yield Stretch(number, offset, size)
            number += int(np.count_nonzero(np.frombuffer(data, np.uint8) == LINE_END)) + (not whole)
            offset += size

    def take(self, stretch: Stretch) -> tuple[int, list[Part]]:
        """How many bytes the stretch has, and its parts, in their order."""
        with self._path.open("rb") as file:
            blocks = line_blocks(file, stretch, ignore_progress)
            return stretch.size, [part for block in blocks for part in self._parts(block)]

    def load(self, stretch: Stretch) -> list[Packed]:
        """The rows of a stretch of which all were taken."""
        with self._path.open("rb") as file:
            data = os.pread(file.fileno(), stretch.size, stretch.offset)
        rows, _ = self._packed(lines_of(data), stretch.number)
        return self._named(rows)

    def _parts(self, block: Lines) -> Iterator[Part]:
        data = b"".join(block.lines)
        if rows := self._rows(block, data):
            yield Stretch(block.number, block.offset, len(data)), Marks.of(rows)
        elif len(block.lines) > 1:
            for line in block.one_by_one():
                yield from self._parts(line)
        else:
            yield block

    def _rows(self, block: Lines, data: bytes) -> list[Packed] | None:
        """None where one can't be taken."""
        if len(data) > MAX_ROW_BYTES:
            return None
        try:
            rows, strings = self._packed(block.lines, block.number)
        except NOT_PLAIN:
            return None
        escaped = _escaped(data)
        if strings != _strings(data, escaped):
            return None
        if self._is_odd(data, escaped) and self._is_odd(again := orjson.dumps(rows), _escaped(again)):
            return None
        return self._named(rows)

    def _is_odd(self, data: bytes, escaped: bytes) -> bool:
        """Whether a text may be refused, or is not written as orjson writes it: then nobody knows yet."""
        return bool(escaped.translate(None, PLAIN_ESCAPES)) or self._may_refuse(data)

    def _packed(self, lines: Sequence[bytes], number: int) -> tuple[list[Packed], int]:
        """The rows, and how many strings they have."""
        found = [
            self._pack(orjson.loads(line), f"{self._file}:{at}") for at, line in enumerate(lines, number)
        ]
        return [row for row, _ in found], sum([strings for _, strings in found])

    def _named(self, rows: list[Packed]) -> list[Packed]:
        """With the dataset's system prompt."""
        if self._system:
            for row in rows:
                row[1] = self._system
        return rows


def _escaped(data: bytes) -> bytes:
    """What stands behind the backslashes of JSON, in a row."""
    octets = np.frombuffer(data, np.uint8)
    at = np.flatnonzero(octets == BACKSLASH)
    if (at[1:] - at[:-1] == 1).any():  # one may be no escape, but be escaped
        return _escaped(data.replace(rb"\\", b""))
    return octets[at + 1].tobytes()


def _strings(data: bytes, escaped: bytes) -> int:
    """How many JSON has, by the quotes in it that are not part of one."""
    quotes = np.count_nonzero(np.frombuffer(data, np.uint8) == QUOTE)
    return int(quotes - escaped.count(QUOTE)) // 2
