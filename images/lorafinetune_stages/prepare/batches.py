"""Which rows are encoded together: few enough for the memory, and as they are read.

If a batch ended inside a block of rows, the block would be read once more for the next batch, perhaps by
another process.
"""

from collections.abc import Container, Iterator, Sequence
from typing import Final

BATCH_ROWS: Final = 512
BATCH_CHARACTERS: Final = 2**17
"""A batch ends with the row that reaches either: they bound the memory."""


def batches(rows: Sequence[int], sizes: Sequence[int], lasts: Container[int]) -> Iterator[Sequence[int]]:
    """Numbers of rows, in their order. sizes: in characters, by number. lasts: rows that end a block, with
    which a batch ends if it has half of what it may have."""
    start, room = 0, BATCH_CHARACTERS
    for at, row in enumerate(rows, 1):
        room -= sizes[row]
        full = room <= 0 or at - start >= BATCH_ROWS
        half = room <= BATCH_CHARACTERS / 2 or at - start >= BATCH_ROWS / 2
        if full or (half and row in lasts):
            yield rows[start:at]
            start, room = at, BATCH_CHARACTERS
    if start < len(rows):
        yield rows[start:]
