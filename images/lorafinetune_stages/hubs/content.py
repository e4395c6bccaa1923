"""A file of the store on its way to a hub: a stream that can be rewound, and is never whole in memory.

It is hashed while it is sent, and its last bytes go only if the whole is what the manifest says.
"""

import hashlib
import io
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import BinaryIO, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store import Advance, ignore_progress
from lorafinetune_stages.store.errors import DamagedError
from lorafinetune_stages.store.manifest import MANIFEST, ManifestFile
from lorafinetune_stages.store.streams import CHUNK_BYTES

MAX_WHOLE_BYTES: Final = 2**24
"""Largest file that is held in memory: hubs take small files inside the commit."""

Open = Callable[[int], AbstractContextManager[BinaryIO]]
"""Opens a file at a position."""


class Content(io.BufferedIOBase):
    """One file of a manifest. place: of the output that it belongs to. advance: told of every byte once,
    however often it is sent; it may raise.

    Reading raises DamagedError where the store holds something else than the manifest says. One thread at a
    time.
    """

    def __init__(
        self, place: str, file: ManifestFile, opened: Open, advance: Advance = ignore_progress
    ) -> None:
        super().__init__()
        self.file = file
        self._place = place
        self._open = opened
        self._advance = advance
        self._stack = ExitStack()
        self._stream: BinaryIO | None = None
        self._position = self._streamed = self._counted = self._hashed = 0
        self._sha256 = hashlib.sha256()

    def again(self) -> "Content":
        """The same file, from its start, which tells nobody of its progress."""
        return Content(self._place, self.file, self._open)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.file.size}[whence]
        self._position = max(start + offset, 0)
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self.file.size - self._position, 0)
        if size is not None and size >= 0:
            return self._next(min(size, left))
        if left > MAX_WHOLE_BYTES:
            raise StageError(
                Reason.HUB_UNAVAILABLE, f"{self.file.path}: the hub asks for {left} bytes in one message"
            )
        return b"".join(iter(lambda: self._next(min(CHUNK_BYTES, self.file.size - self._position)), b""))

    def close(self) -> None:
        self._stack.close()
        self._stream = None
        super().close()

    def complete(self) -> None:
        """The hub has the whole file, whether it was sent or there before."""
        self._count(self.file.size)

    def _next(self, size: int) -> bytes:
        if size <= 0:
            return b""
        chunk = self._opened().read(size)
        if not chunk:
            raise self._damaged()
        self._verify(chunk)
        self._position += len(chunk)
        self._streamed = self._position
        self._count(self._position)
        return chunk

    def _opened(self) -> BinaryIO:
        if self._stream is None or self._streamed != self._position:
            self._stack.close()
            self._stream = self._stack.enter_context(self._open(self._position))
        return self._stream

    def _verify(self, chunk: bytes) -> None:
        """Hashes what comes in order; after a jump into the middle nothing is known of the rest."""
        if self._position == 0:
            self._sha256, self._hashed = hashlib.sha256(), 0
        if self._position != self._hashed:
            return
        self._sha256.update(chunk)
        self._hashed += len(chunk)
        if self._hashed == self.file.size and self._sha256.hexdigest() != self.file.sha256:
            raise self._damaged()

    def _count(self, position: int) -> None:
        self._advance(max(position - self._counted, 0))
        self._counted = max(position, self._counted)

    def _damaged(self) -> DamagedError:
        message = f"the merged model's file {self.file.path} does not match {MANIFEST}"
        return DamagedError(self._place, self.file.path, message)


def blob_id(content: Content) -> str:
    """Git's id of a file."""
    sha1 = hashlib.sha1(b"blob %d\0" % content.file.size, usedforsecurity=False)
    with content.again() as stream:
        while chunk := stream.read(CHUNK_BYTES):
            sha1.update(chunk)
    return sha1.hexdigest()
