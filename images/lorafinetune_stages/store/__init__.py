"""The store: where stages leave their outputs. One Protocol, two implementations.

Keys are relative POSIX paths below the store's root (`storage.uri`). An output without a manifest does not
exist: the manifest is written last, by `create`, which only one writer can win.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

Chunk = bytes | memoryview

Advance = Callable[[int], None]
"""Called with a number of bytes that have moved."""


def ignore_progress(_: int) -> None:
    """An `Advance` for when nobody looks."""


PARTS_AT_ONCE: Final = 2
"""Of one object that is written; objects move in parallel too."""


@dataclass(frozen=True)
class Entry:
    """One object. version: changes whenever the content does (an ETag, or size and mtime). modified: when it
    was written, in whole seconds since 1970."""

    key: str
    size: int
    version: str
    modified: int


@dataclass(frozen=True)
class Stored:
    """What was written: size in bytes and sha256 in hexadecimal, both taken while it streamed."""

    size: int
    sha256: str


class Store(Protocol):
    """A directory of objects. Every method raises StageError for a reason that a person can mend.

    A key that could lead out of the store is ConfigInvalid, an object that should be there and is not is
    ArtifactCorrupt. Instances may be shared by threads.
    """

    uri: str

    @property
    def conditional_writes(self) -> bool:
        """Whether `create` keeps its promise. A server that is not known to is tried once, by writing."""

    def list(self, prefix: str) -> Iterator[Entry]:
        """Objects whose key is `prefix` or lies below it, in the byte order of their keys; all of them where
        it is empty."""

    def find(self, key: str) -> Entry | None:
        """The object, or None where there is none."""

    def read(self, key: str, limit: int = 64 * 2**20) -> bytes | None:
        """A small object whole, or None where there is none. ArtifactCorrupt over `limit` bytes."""

    def open(self, key: str, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """A stream of the object from `offset` on."""

    def create(self, key: str, data: bytes) -> bool:
        """Writes a small object only if there is none. False: somebody else was first.

        Of any number of concurrent calls one returns True. A server without conditional writes can't promise
        that; it is named in a warning.
        """

    def write(self, key: str, data: bytes) -> None:
        """Writes a small object, replacing any."""

    def put(
        self,
        key: str,
        chunks: Iterable[Chunk],
        advance: Advance = ignore_progress,
        at_once: int = PARTS_AT_ONCE,
    ) -> Stored:
        """Writes a large object from a stream, hashing it on the way. It appears whole or not at all.

        at_once: parts of 16 MiB that may be on their way, where the store takes parts.
        """

    def upload(self, path: Path, key: str, advance: Advance = ignore_progress) -> Stored:
        """Writes a large object from a file, in parallel parts, hashing it on the way."""

    def download(self, key: str, path: Path, advance: Advance = ignore_progress) -> Stored:
        """Reads an object into a file, in parallel parts. The caller compares with the manifest."""

    def delete(self, prefix: str) -> None:
        """Removes what lies at or below `prefix`; nothing there is no error."""
