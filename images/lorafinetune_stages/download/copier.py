"""Copies from a source into the store: several files at once, hashed while they stream, and resumed where an
earlier run left off."""

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from lorafinetune_stages.download.safetensors import HeaderError, checked
from lorafinetune_stages.hubs import Pause, RemoteFile, Source
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.hubs.retry import resumed
from lorafinetune_stages.store import Advance, Chunk, Store, Stored
from lorafinetune_stages.store.manifest import ManifestFile
from lorafinetune_stages.store.streams import Measured, chunks_of

log = logging.getLogger("lorafinetune")

WORKERS: Final = 4
"""Files that move at once. Each holds a few parts of an upload in memory."""


class _StoppedError(Exception):
    """Another file has failed, or the stage was asked to stop: this file need not go on."""


@dataclass(frozen=True)
class Copier:
    """Copies files of one source to one place in the store.

    advance: gets the bytes that have moved, or were found to be there. stop: ends the copying.
    """

    origin: Origin
    source: Source
    store: Store
    place: str
    advance: Advance
    pause: Pause
    stop: threading.Event

    def copy(self, files: Iterable[RemoteFile]) -> tuple[ManifestFile, ...]:
        """Raises StageError for the first file that can't be copied; the others end at their next chunk."""
        largest_first = sorted(files, key=lambda file: file.size, reverse=True)
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="download") as pool:
            futures = [pool.submit(self._copy, file) for file in largest_first]
            try:
                finished = wait(futures, return_when=FIRST_EXCEPTION).done
                return tuple(future.result() for future in futures if future in finished)
            except BaseException:
                self.stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _copy(self, file: RemoteFile) -> ManifestFile:
        key = f"{self.place}/{file.path}"
        stored = self._found(key, file) or self._put(key, file)
        return ManifestFile(path=file.path, size=stored.size, sha256=stored.sha256)

    def _found(self, key: str, file: RemoteFile) -> Stored | None:
        """The file as an earlier run left it, if it is whole: it is read back, for nobody vouches for it."""
        entry = self.store.find(key)
        if entry is None or entry.size != file.size:
            return None
        with self.store.open(key) as content:
            measured = Measured(_checked(file, self._while_running(chunks_of(content))), self.advance)
            whole = _is_read_whole(measured)
        if whole and file.sha256 in (None, measured.stored.sha256):
            return measured.stored
        log.warning("%s/%s is damaged, and is copied again", self.store.uri, key)
        self.advance(-measured.stored.size)
        return None

    def _put(self, key: str, file: RemoteFile) -> Stored:
        with closing(resumed(self.origin, self.source, file, self.pause)) as content:
            chunks = _checked(file, self._while_running(content))
            try:
                stored = self.store.put(key, chunks, self.advance)
            except HeaderError as problem:
                raise self.origin.corrupt(f"has a broken file: {file.path} {problem}") from problem
        if file.sha256 not in (None, stored.sha256):
            self.store.delete(key)
            what = f"sends {file.path} with the sha256 {stored.sha256}, and announces {file.sha256}"
            raise self.origin.corrupt(what)
        return stored

    def _while_running(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self.stop.is_set():
                raise _StoppedError
            yield chunk


def _checked(file: RemoteFile, chunks: Iterable[bytes]) -> Iterable[bytes]:
    return checked(chunks, file.size) if file.path.endswith(".safetensors") else chunks


def _is_read_whole(chunks: Iterable[Chunk]) -> bool:
    """Whether a file in the store can be read to its end, and is what its name says."""
    try:
        deque(chunks, maxlen=0)
    except HeaderError:
        return False
    return True
