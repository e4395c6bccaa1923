"""Results that one process leaves for another: their arrays lie in shared memory, and only the little that
is left of them goes through a pipe.

A pipe takes a few pages at a time, so both would wait for each other, and copy everything twice.
"""

import mmap
import pickle
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

ROOM_BYTES: Final = 2**22
"""A result whose arrays have more goes through the pipe whole."""
ALIGNED_BYTES: Final = 64
"""What Arrow asks for."""

Message = tuple[bytes, Sequence[int]]


class SharedBuffer:
    """Has room for one result at a time. It is made before the other process, which is a copy of this one.

    What was taken shares its memory: it is good until the next result is put there.
    """

    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, ROOM_BYTES))

    def put(self, result: object) -> Message:
        """What `take` needs to know of it."""
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(result, pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
        parts = [buffer.raw() for buffer in buffers]
        sizes = [part.nbytes for part in parts]
        starts, end = _starts(sizes)
        if end > ROOM_BYTES:
            return pickle.dumps(result, pickle.HIGHEST_PROTOCOL), ()
        for start, part in zip(starts, parts, strict=True):
            self._memory[start : start + part.nbytes] = part
        return data, sizes

    def take(self, message: Message) -> Any:
        data, sizes = message
        starts, _ = _starts(sizes)
        parts = [self._memory[start : start + size] for start, size in zip(starts, sizes, strict=True)]
        return pickle.loads(data, buffers=parts)  # noqa: S301 - a copy of this process wrote it


def _starts(sizes: Sequence[int]) -> tuple[Sequence[int], int]:
    """Where parts of these sizes begin, and where the last one ends."""
    *starts, end = accumulate((-(-size // ALIGNED_BYTES) * ALIGNED_BYTES for size in sizes), initial=0)
    return starts, end
