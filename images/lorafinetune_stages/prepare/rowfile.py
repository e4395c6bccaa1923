"""Rows in blocks, to be read many at a time: from a scratch file, or from the file that they came from."""

import bisect
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import BinaryIO, Final

import orjson

from lorafinetune_stages.prepare.conversation import Packed

BLOCK_BYTES: Final = 2**15
"""A block has at least as many, but for the last one."""

Load = Callable[[], list[Packed]]
"""Reads a block."""


class RowFile:
    """file: empty and unbuffered, to be written and read. Copies of this process may read it, too."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = 0
        self._waiting: list[Packed] = []
        self._waiting_bytes = 0
        self._firsts = array("Q", [0])
        self._loads: list[Load] = []

    def append(self, row: Packed) -> None:
        """Adds a row, which waits for others."""
        self._waiting.append(row)
        self._waiting_bytes += sum(map(len, row))
        if self._waiting_bytes >= BLOCK_BYTES:
            self.write()

    def extend(self, count: int, size: int, load: Load) -> None:
        """Adds rows that are kept elsewhere; few of them are kept here, with others. size: in bytes."""
        if size < BLOCK_BYTES:
            for row in load():
                self.append(row)
            return
        self.write()
        self._add(count, load)

    def read(self, rows: Iterable[int]) -> Iterator[Packed]:
        """The rows with these numbers; a block is read once for all that follow each other."""
        self.write()
        block: list[Packed] = []
        first = 0
        for row in rows:
            if not first <= row < first + len(block):
                at = bisect.bisect_right(self._firsts, row) - 1
                first, block = self._firsts[at], self._loads[at]()
            yield block[row - first]

    def lasts(self) -> set[int]:
        """Numbers of the rows that end a block."""
        return {first - 1 for first in self._firsts}

    def write(self) -> None:
        """No row waits any more."""
        if not self._waiting:
            return
        data = orjson.dumps(self._waiting)
        self._file.write(data)
        self._add(len(self._waiting), partial(self._load, self._end, len(data)))
        self._end += len(data)
        self._waiting, self._waiting_bytes = [], 0

    def _add(self, count: int, load: Load) -> None:
        self._firsts.append(self._firsts[-1] + count)
        self._loads.append(load)

    def _load(self, start: int, size: int) -> list[Packed]:
        found: list[Packed] = orjson.loads(os.pread(self._file.fileno(), size, start))
        return found
