"""Whole directories between scratch and store: in parallel, in bounded memory, verified."""

import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final, Generic, TypeVar

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store import Advance, Store, Stored, ignore_progress
from lorafinetune_stages.store.errors import DamagedError
from lorafinetune_stages.store.manifest import MANIFEST, Manifest, ManifestFile
from lorafinetune_stages.store.streams import Measured, chunks_of

WORKERS: Final = 8
"""Files that move at once."""

Item = TypeVar("Item")
Done = TypeVar("Done")


class _CancelledError(Exception):
    """Another file has failed: this one need not go on."""


def upload_tree(
    store: Store, root: Path, place: str, advance: Advance = ignore_progress, workers: int = WORKERS
) -> tuple[ManifestFile, ...]:
    """Uploads all files below `root` to the same paths below `place`, and says what they are, in the
    order of their paths.

    Raises ValueError for a symbolic link, or anything that is no file; StageError(ConfigInvalid) for a
    file that would stand in the manifest's place.
    """

    def upload(path: Path, advance: Advance) -> ManifestFile:
        name = path.relative_to(root).as_posix()
        stored = store.upload(path, f"{place}/{name}", advance)
        return ManifestFile(path=name, size=stored.size, sha256=stored.sha256)

    files = sorted(_files(root), key=lambda path: path.stat().st_size, reverse=True)
    return tuple(sorted(in_parallel(upload, files, advance, workers), key=lambda file: file.path))


def download_tree(
    store: Store,
    place: str,
    manifest: Manifest,
    root: Path,
    advance: Advance = ignore_progress,
    workers: int = WORKERS,
) -> None:
    """Downloads the files of an output to the same paths below `root`.

    Raises DamagedError for a file whose size or content is not the manifest's, read twice.
    """

    def download(file: ManifestFile, advance: Advance) -> None:
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _verify(store, place, file, lambda key, advance: store.download(key, path, advance), advance)
        except DamagedError:
            path.unlink()
            raise

    in_parallel(download, _largest_first(manifest), advance, workers)


def check_tree(store: Store, place: str, manifest: Manifest, advance: Advance = ignore_progress) -> None:
    """Reads the files of an output, and keeps nothing of them. Raises DamagedError as download_tree does."""

    def check(file: ManifestFile, advance: Advance) -> None:
        _verify(store, place, file, lambda key, advance: _read(store, key, advance), advance)

    in_parallel(check, _largest_first(manifest), advance, WORKERS)


def _verify(
    store: Store,
    place: str,
    file: ManifestFile,
    read: Callable[[str, Advance], Stored],
    advance: Advance,
) -> None:
    """Once more where it is not the manifest's: what was read may have been hurt on its way."""
    key, wanted = f"{place}/{file.path}", Stored(file.size, file.sha256)
    if read(key, advance) != wanted and (found := read(key, ignore_progress)) != wanted:
        raise _damaged(store, place, file, found)


def _read(store: Store, key: str, advance: Advance) -> Stored:
    with store.open(key) as stream:
        measured = Measured(chunks_of(stream), advance)
        deque(measured, maxlen=0)
    return measured.stored


def _largest_first(manifest: Manifest) -> list[ManifestFile]:
    return sorted(manifest.files, key=lambda file: file.size, reverse=True)


def _files(root: Path) -> Iterable[Path]:
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            yield _not_a_manifest(root, path)
        elif not stat.S_ISDIR(mode):
            raise ValueError(f"{path} is neither a file nor a directory")


def _not_a_manifest(root: Path, path: Path) -> Path:
    if path == root / MANIFEST:
        raise StageError(Reason.CONFIG_INVALID, f"a file can't be named {MANIFEST}: the store needs the name")
    return path


def in_parallel(
    move: Callable[[Item, Advance], Done],
    items: Iterable[Item],
    advance: Advance,
    workers: int,
    stopped: threading.Event | None = None,
) -> list[Done]:
    """Moves all items. The first failure stops the others at their next chunk, and is raised.

    stopped: set at the end, for whoever waits for something else than a chunk.
    """
    moving = _Moving(move, advance, stopped or threading.Event())
    with ThreadPoolExecutor(workers, thread_name_prefix="transfer") as pool:
        futures = [pool.submit(moving.run, item) for item in items]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            moving.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
    if moving.failures:
        raise moving.failures[0]
    return [future.result() for future in futures]


class _Moving(Generic[Item, Done]):
    """What the threads share. stopped: nothing goes on any more. failures: the first one is the cause."""

    def __init__(
        self, move: Callable[[Item, Advance], Done], advance: Advance, stopped: threading.Event
    ) -> None:
        self._move = move
        self._advance = advance
        self.stopped = stopped
        self.failures: list[BaseException] = []

    def run(self, item: Item) -> Done:
        try:
            self._go_on()
            return self._move(item, self._advance_or_stop)
        except BaseException as problem:
            self.failures.append(problem)
            self.stopped.set()
            raise

    def _advance_or_stop(self, count: int) -> None:
        self._go_on()
        self._advance(count)

    def _go_on(self) -> None:
        if self.stopped.is_set():
            raise _CancelledError


def _damaged(store: Store, place: str, file: ManifestFile, stored: Stored) -> DamagedError:
    return DamagedError(
        place,
        file.path,
        f"{store.uri}/{place}: the file {file.path} does not match {MANIFEST}: "
        f"{stored.size} bytes with sha256 {stored.sha256} in place of {file.size} with {file.sha256}",
    )
