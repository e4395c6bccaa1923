"""Where models and datasets come from, and where models are published to: one Protocol for each, and one
small module for each kind of source and target.

A source says what it holds and streams it. What is taken of it, copying, hashing, resuming and
committing are written once, in `lorafinetune_stages.download`. A target says what it holds and takes
files in one commit. Which files those are is decided once, in `lorafinetune_stages.export`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs.content import Content

MAX_FILES: Final = 100_000
"""Of one source."""
Pause = Callable[[float], object]
"""Waits that many seconds, or until the stage is asked to stop."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a source. path: relative, POSIX. sha256: as the source announces it, if it does. blob:
    git's id of the content, where a hub announces that."""

    path: str
    size: int
    sha256: str | None = None
    blob: str | None = None


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


@dataclass(frozen=True)
class Change:
    """What one commit does. message: one line. remove: paths that are there and shall not be."""

    message: str
    add: Sequence[Content]
    remove: Sequence[str] = ()


class Target(Protocol):
    """One repository that is written to. Its methods raise as those of a source do; `snapshot` and `check`
    have tried again by then."""

    def connected(self) -> AbstractContextManager[None]:
        """`create`, `upload` and `commit` are called inside."""

    def check(self) -> None:
        """Proves, as far as the hub tells without a change, that the token may write there."""

    def snapshot(self) -> Snapshot | None:
        """What is there, or None where there is no such repository."""

    def create(self, visibility: Literal["private", "public"], licence: str) -> None:
        """Makes the repository. Somebody who was faster is no error. licence: its id, like `apache-2.0`."""

    def upload(self, content: Content) -> None:
        """Brings a file to the hub, so that the commit can name it. Safe to call from several threads."""

    def commit(self, change: Change) -> None:
        """Makes the uploaded files visible, all at once."""


class TransientError(Exception):
    """A failure that may pass. error: what is raised in the end if it doesn't. wait: seconds that the
    other side asks for."""

    def __init__(self, error: StageError, wait: float | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.wait = wait
