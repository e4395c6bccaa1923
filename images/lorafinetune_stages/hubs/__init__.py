"""Where models and datasets come from: one Protocol, one small module for each kind of source.

A source says what it holds and streams it. What is taken of it, copying, hashing, resuming and
committing are written once, in `lorafinetune_stages.download`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from lorafinetune.contract.outcome import StageError

Pause = Callable[[float], object]
"""Waits that many seconds, or until the stage is asked to stop."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a source. path: relative, POSIX. sha256: as the source announces it, if it does."""

    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """What a source holds at one revision.

    revision: a hub's commit; where a source has none, a digest that changes with the content. single:
    the source names one file, which is taken whatever its name.
    """

    revision: str
    files: tuple[RemoteFile, ...]
    single: bool = False


class Source(Protocol):
    """One source. Both methods raise StageError for what a person can mend, and TransientError for
    what may pass by itself: the caller waits and asks again."""

    def snapshot(self) -> Snapshot:
        """The revision that was asked for, resolved, and all files that it has."""

    def stream(self, file: RemoteFile, offset: int = 0) -> Iterator[bytes]:
        """The content of a file of the snapshot, from `offset` on."""


class TransientError(Exception):
    """A failure that may pass. error: what is raised in the end if it doesn't. wait: seconds that the
    other side asks for."""

    def __init__(self, error: StageError, wait: float | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.wait = wait
