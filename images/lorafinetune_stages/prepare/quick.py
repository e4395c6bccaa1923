"""The short way of lines of JSON into the corpus, for lines in which nothing is out of the ordinary.

Long ones are kept as they stand, and made something of again when they are needed.

orjson reads a line as the standard library does, or refuses it, but for names that are given twice: those
show in the number of quotes. What is not taken goes the careful way, which knows what is wrong, and where.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

import numpy as np
import orjson

from lorafinetune_stages.prepare.conversation import Packed, Packs
from lorafinetune_stages.prepare.findings import Place
from lorafinetune_stages.prepare.lines import Lines
from lorafinetune_stages.prepare.plain import NOT_PLAIN, Pack
from lorafinetune_stages.prepare.window import MAX_ROW_BYTES

QUOTE: Final = ord('"')
BACKSLASH: Final = ord("\\")
LONG_ROW: Final = 512
"""Bytes of a row that is not written anew: to make something of it twice takes less time."""


class Quick:
    """system: takes the place of the rows' own. may_refuse: whether JSON of texts may hold what no text may
    have. name: the file's, in messages."""

    def __init__(
        self, pack: Pack, system: str | None, may_refuse: Callable[[bytes], bool], name: str
    ) -> None:
        self._pack = pack
        self._system = system
        self._may_refuse = may_refuse
        self._file = str(Place(name, None))

    def take(self, block: Lines) -> Iterator[Packs | Lines]:
        """The rows of the block, and the lines that are not taken, in their order."""
        if packs := self._take_all(block):
            yield packs
        elif len(block.lines) > 1:
            for line in block.one_by_one():
                yield from self.take(line)
        else:
            yield block

    def _take_all(self, block: Lines) -> Packs | None:
        """None where one can't be taken."""
        data = b"\n".join(block.lines)
        if len(data) > MAX_ROW_BYTES:
            return None
        try:
            rows, strings = self._packed(block.lines, block.number)
        except NOT_PLAIN:
            return None
        if strings != _strings(data) or (self._may_refuse(data) and self._may_refuse(orjson.dumps(rows))):
            return None
        rows = self._named(rows)
        if len(data) < len(rows) * LONG_ROW:
            return Packs.of(rows)
        return Packs(rows, data, partial(self._read, block.number))

    def _read(self, number: int, data: bytes) -> list[Packed]:
        """What was taken before."""
        rows, _ = self._packed(data.split(b"\n"), number)
        return self._named(rows)

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


def _strings(data: bytes) -> int:
    """How many JSON has, by the quotes in it that are not part of one."""
    octets = np.frombuffer(data, np.uint8)
    quotes, backslashes = octets == QUOTE, octets == BACKSLASH
    escaped = quotes[1:] & backslashes[:-1]
    if (escaped[1:] & backslashes[:-2]).any():  # or the backslash is
        return _strings(data.replace(b"\\\\", b""))
    return int(np.count_nonzero(quotes) - np.count_nonzero(escaped)) // 2
