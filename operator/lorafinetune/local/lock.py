"""One run of one resource at a time on a machine.

The stages inherit the lock, so a stage that outlives a killed run is waited for and never doubled.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class AlreadyRunningError(Exception):
    """Another run of the resource is alive."""


@contextmanager
def run_lock(path: Path, waiting: Callable[[], None], patience_seconds: float = 150) -> Iterator[int]:
    """Holds the lock, as an open file descriptor for children to inherit.

    Raises AlreadyRunningError where a run is alive. waiting: called once, when only a stage is left of
    a killed run, which is waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, waiting, time.monotonic() + patience_seconds)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a run, or a stage that it has left behind, is alive."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _acquire(descriptor: int, waiting: Callable[[], None], until: float) -> None:
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode()
            if _alive(owner):
                raise AlreadyRunningError(f"it is run by process {owner}") from None
            if time.monotonic() > until:
                raise AlreadyRunningError("a stage of a killed run does not end") from None
            if not told:
                waiting()
                told = True
            time.sleep(0.2)


def _alive(owner: str) -> bool:
    try:
        os.kill(int(owner), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
