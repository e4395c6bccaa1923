"""Files that appear whole or not at all: written under a hidden name, then moved into place.

A writer holds a lock on its file. An unlocked file was left by a writer that was killed, and the next
writer removes it.
"""

import errno
import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from lorafinetune_stages.store import Chunk, Stored
from lorafinetune_stages.store.errors import file_system_errors

MIN_LEFTOVER_SECONDS: Final = 60
"""A file younger than this may belong to a writer that has not locked it yet."""

Move = Callable[[Path, Path], None]


class Partial:
    """A file on its way into a store: hashed while it is written, published at the end."""

    def __init__(self, file: BinaryIO, path: Path, uri: str) -> None:
        self._file = file
        self._path = path
        self._uri = uri
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, chunk: Chunk) -> None:
        self._hash.update(chunk)
        self._size += len(chunk)
        with file_system_errors(self._uri):
            self._file.write(chunk)

    def publish(self, target: Path, move: Move) -> Stored:
        """Lets the file appear. move: `os.replace`, or `os.link`, which raises FileExistsError."""
        with file_system_errors(self._uri):
            self._file.flush()
            os.fsync(self._file.fileno())
            _make_directory(target.parent)
            move(self._path, target)
        return Stored(self._size, self._hash.hexdigest())


@contextmanager
def partial(directory: Path, uri: str) -> Iterator[Partial]:
    """A new file in `directory`; it is gone at the end unless it was moved. uri: named in errors."""
    path = directory / uuid.uuid4().hex
    with file_system_errors(uri):
        directory.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield Partial(file, path, uri)
    finally:
        with file_system_errors(uri):
            path.unlink(missing_ok=True)
            file.close()


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as problem:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from problem


def sweep(directory: Path) -> None:
    """Removes what killed writers left in `directory`."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in directory.iterdir():
            with suppress(OSError):
                _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    if time.time() - path.stat().st_mtime < MIN_LEFTOVER_SECONDS:
        return
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
