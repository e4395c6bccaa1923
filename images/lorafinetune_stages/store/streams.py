"""Copying streams in bounded memory, hashing on the way."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from lorafinetune_stages.store import Advance, Stored

CHUNK_BYTES: Final = 2**18
"""Small enough for the allocator to use the same memory again: larger ones cost page faults."""

Chunk = bytes | memoryview


def chunks_of(file: BinaryIO, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The rest of a file, `size` bytes at a time."""
    while chunk := file.read(size):
        yield chunk


class Measured:
    """A stream that is hashed and counted while somebody else consumes it."""

    def __init__(self, chunks: Iterable[Chunk], advance: Advance) -> None:
        self._chunks = chunks
        self._advance = advance
        self._sha256 = hashlib.sha256()
        self._size = 0

    def __iter__(self) -> Iterator[Chunk]:
        for chunk in self._chunks:
            self._sha256.update(chunk)
            self._size += len(chunk)
            self._advance(len(chunk))
            yield chunk

    @property
    def stored(self) -> Stored:
        """What has been consumed by now."""
        return Stored(self._size, self._sha256.hexdigest())


def save(chunks: Iterable[Chunk], path: Path, advance: Advance) -> Stored:
    """Writes a stream to a scratch file. The file is gone again where the stream breaks."""
    measured = Measured(chunks, advance)
    with _removed_on_failure(path), path.open("wb") as file:
        for chunk in measured:
            file.write(chunk)
    return measured.stored


@contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise
