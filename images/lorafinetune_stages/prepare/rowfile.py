"""Rows in a scratch file, many to a block, so that they are written and read many at a time."""

import bisect
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Final

from lorafinetune_stages.prepare.conversation import Packed, Packs

BLOCK_BYTES: Final = 2**15
"""A block has at least as many, but for the last one."""


class RowFile:
    """file: empty, to be written and read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._waiting: list[Packed] = []
        self._waiting_bytes = 0
        self._firsts = array("Q", [0])
        self._starts = array("Q", [0])
        self._ways: list[Callable[[bytes], list[Packed]]] = []

    def extend(self, packs: Packs) -> None:
        """Adds rows; few of them wait for others."""
        if len(packs.data) >= BLOCK_BYTES:
            self._write_waiting()
            self._write(packs)
            return
        self._waiting += packs.rows
        self._waiting_bytes += len(packs.data)
        if self._waiting_bytes >= BLOCK_BYTES:
            self._write_waiting()

    def read(self, rows: Iterable[int]) -> Iterator[Packed]:
        """The rows with these numbers; a block is read once for all that follow each other."""
        self._write_waiting()
        block: list[Packed] = []
        first = 0
        for row in rows:
            if not first <= row < first + len(block):
                at = bisect.bisect_right(self._firsts, row) - 1
                first, block = self._firsts[at], self._load(at)
            yield block[row - first]

    def _write_waiting(self) -> None:
        if self._waiting:
            self._write(Packs.of(self._waiting))
            self._waiting, self._waiting_bytes = [], 0

    def _write(self, packs: Packs) -> None:
        self._file.seek(self._starts[-1])
        self._file.write(packs.data)
        self._firsts.append(self._firsts[-1] + len(packs.rows))
        self._starts.append(self._starts[-1] + len(packs.data))
        self._ways.append(packs.read)

    def _load(self, block: int) -> list[Packed]:
        self._file.seek(self._starts[block])
        data = self._file.read(self._starts[block + 1] - self._starts[block])
        return self._ways[block](data)
