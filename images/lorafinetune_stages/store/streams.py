"""Copying streams in bounded memory, hashing on the way."""

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice, repeat
from pathlib import Path
from threading import Semaphore
from typing import BinaryIO, Final, TypeVar

from lorafinetune_stages.store import Advance, Chunk, Stored

CHUNK_BYTES: Final = 2**20
"""Each takes the interpreter a few times. Larger ones cost page faults."""

Item = TypeVar("Item")
Done = TypeVar("Done")
END: Final = object()


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


def in_order(
    work: Callable[[Item], Done], items: Iterable[Item], at_once: int, threads: int = 0
) -> Generator[Done]:
    """What `work` makes of each item, in the order of the items, while `at_once` of them are worked on, or
    wait to be. threads: as many as there are items at once, unless told otherwise."""
    pool = ThreadPoolExecutor(threads or at_once, thread_name_prefix="parts")
    begun: deque[Future[Done]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) == at_once:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def as_wanted(
    work: Callable[[Item], Done], items: Iterable[Item], spare: Semaphore, most: int
) -> Generator[Done]:
    """What `work` makes of each item, in the order of the items, while the next one is worked on; and twice
    as many whenever the caller had to wait: what is far away needs more at a time than what is near.

    spare: how many more all callers may have together. most: that one may have.
    """
    left, more = iter(items), 0
    pool = ThreadPoolExecutor(2 + most, thread_name_prefix="parts")
    begun = deque(pool.submit(work, item) for item in islice(left, 1))
    try:
        while begun:
            first = begun.popleft()
            wider = 0 if first.done() else _taken(spare, min(1 + more, most - more))
            more += wider
            begun.extend(pool.submit(work, item) for item in islice(left, 1 + wider))
            yield first.result()
    finally:
        pool.shutdown(cancel_futures=True)
        if more:
            spare.release(more)


def _taken(spare: Semaphore, wanted: int) -> int:
    """How many of those that are wanted there were."""
    return sum(1 for _ in range(wanted) if spare.acquire(blocking=False))


def ahead(items: Iterable[Item], room: int) -> Generator[Item]:
    """The items, of which another thread makes up to `room` before they are asked for."""
    source = iter(items)
    with closing(in_order(lambda _: next(source, END), repeat(None), room, threads=1)) as made:
        for item in made:
            if item is END:
                return
            yield item  # type: ignore[misc]  # not END
