"""A disk of memory that is full for a while: it is made as small as what it holds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cluster.process import CommandError

TRIES: Final = 20
"""It can't be made smaller than it is when the kernel is asked; meanwhile somebody may have written."""
USED: Final = 'df --block-size=1 --output=used "$1" | tail -1'
Run = Callable[..., str]


@contextmanager
def full(run: Run, folder: Path, size: str) -> Iterator[None]:
    """size: that it has before and after the block. run: a command where the disk is mounted."""
    _fill(run, folder)
    try:
        yield
    finally:
        resize(run, folder, size)


def _fill(run: Run, folder: Path) -> None:
    for attempt in range(1, TRIES + 1):
        used = run("sh", "-c", USED, "used", str(folder)).strip()
        try:
            resize(run, folder, used)
        except CommandError:
            if attempt == TRIES:
                raise
        else:
            return


def resize(run: Run, folder: Path, size: str) -> None:
    run("mount", "-o", f"remount,size={size}", str(folder))
