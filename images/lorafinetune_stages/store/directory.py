"""The store as a directory: keys are files. For local runs, and for tests.

Symbolic links are never followed: whoever can write into the store can't make a stage read or
overwrite a file outside it.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store import PARTS_AT_ONCE, Advance, Chunk, Entry, Stored, ignore_progress
from lorafinetune_stages.store.errors import file_system_errors, no_bucket, not_there, too_large
from lorafinetune_stages.store.naming import RESERVED, check_key
from lorafinetune_stages.store.partial import Partial, partial, sweep
from lorafinetune_stages.store.streams import chunks_of, save


class DirectoryStore:
    """A store below `root`, which is made by the first write.

    uri: the store's name in messages and results. bucket: a directory that must be there already,
    where the store stands in for one of S3.
    """

    def __init__(self, root: Path, uri: str | None = None, bucket: Path | None = None) -> None:
        self.root = root.resolve()
        self.uri = uri or f"file://{self.root}"
        self._bucket = bucket
        self._partials = self.root / RESERVED
        self._swept = False

    @property
    def conditional_writes(self) -> bool:
        return True

    def list(self, prefix: str) -> Iterator[Entry]:
        self._check_bucket()
        if not prefix:
            yield from self._walk(self.root, "")
        elif found := self.find(prefix):
            yield found
        else:
            yield from self._walk(self._locate(prefix), f"{prefix}/")

    def find(self, key: str) -> Entry | None:
        self._check_bucket()
        with file_system_errors(self._name(key)):
            return _entry(key, self._locate(key))

    def read(self, key: str, limit: int = 64 * 2**20) -> bytes | None:
        if self.find(key) is None:
            return None
        with self.open(key) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise too_large(self._name(key), limit)
        return data

    @contextmanager
    def open(self, key: str, offset: int = 0) -> Iterator[BinaryIO]:
        if self.find(key) is None:
            raise not_there(self._name(key))
        with file_system_errors(self._name(key)):
            file = self._locate(key).open("rb")
            file.seek(offset)
        with file:
            yield file

    def create(self, key: str, data: bytes) -> bool:
        with self._partial(key) as file:
            file.write(data)
            try:
                file.publish(self._locate(key), os.link)
            except FileExistsError:
                return False
        return True

    def write(self, key: str, data: bytes) -> None:
        self.put(key, (data,))

    def put(
        self,
        key: str,
        chunks: Iterable[Chunk],
        advance: Advance = ignore_progress,
        at_once: int = PARTS_AT_ONCE,
    ) -> Stored:
        with self._partial(key) as file:
            for chunk in chunks:
                file.write(chunk)
                advance(len(chunk))
            return file.publish(self._locate(key), os.replace)

    def upload(self, path: Path, key: str, advance: Advance = ignore_progress) -> Stored:
        with path.open("rb") as file:
            return self.put(key, chunks_of(file), advance)

    def download(self, key: str, path: Path, advance: Advance = ignore_progress) -> Stored:
        with self.open(key) as file:
            return save(self._chunks(key, file), path, advance)

    def delete(self, prefix: str) -> None:
        path = self._locate(prefix)
        with file_system_errors(self._name(prefix)):
            if _entry(prefix, path):
                path.unlink(missing_ok=True)
            while path.is_dir():
                _remove_tree(path)

    @contextmanager
    def _partial(self, key: str) -> Iterator[Partial]:
        check_key(key, self.uri)
        self._check_bucket()
        if not self._swept:
            self._swept = True
            sweep(self._partials)
        with partial(self._partials, self._name(key)) as file:
            yield file

    def _walk(self, directory: Path, prefix: str) -> Iterator[Entry]:
        """Files below a directory, in the byte order of their keys, as S3 lists them."""
        for child in self._children(directory, prefix):
            key = check_key(prefix + child.name, self.uri)
            if child.is_dir(follow_symlinks=False):
                yield from self._walk(Path(child), f"{key}/")
            elif entry := _entry(key, self._locate(key)):
                yield entry

    def _children(self, directory: Path, prefix: str) -> Iterable[os.DirEntry[str]]:
        with file_system_errors(self._name(prefix)):
            try:
                children = [child for child in os.scandir(directory) if child.name != RESERVED]
            except (FileNotFoundError, NotADirectoryError):
                return ()
        return sorted(children, key=_listing_order)

    def _chunks(self, key: str, file: BinaryIO) -> Iterator[bytes]:
        with file_system_errors(self._name(key)):
            yield from chunks_of(file)

    def _locate(self, key: str) -> Path:
        path = self.root
        for part in check_key(key, self.uri).split("/"):
            path /= part
            if path.is_symlink():
                raise StageError(Reason.STORAGE_DENIED, f"{self._name(key)} leads through a symbolic link")
        return path

    def _check_bucket(self) -> None:
        if self._bucket and not self._bucket.is_dir():
            raise no_bucket(self._bucket.name, self.uri, f"in {self._bucket.parent}")

    def _name(self, key: str) -> str:
        return f"{self.uri}/{key}"


def _entry(key: str, path: Path) -> Entry | None:
    """The regular file at a path: devices, pipes and directories are no objects."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return Entry(key, found.st_size, f"{found.st_size}-{found.st_mtime_ns}", int(found.st_mtime))


def _remove_tree(path: Path) -> None:
    """As far as nobody else removes it too, or writes into it meanwhile."""
    try:
        shutil.rmtree(path)
    except OSError as problem:
        if problem.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise


def _listing_order(child: os.DirEntry[str]) -> bytes:
    return os.fsencode(child.name) + (b"/" if child.is_dir(follow_symlinks=False) else b"")
