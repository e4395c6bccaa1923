"""Trying again: how long to wait after a failure that may pass, and when to give up."""

from collections.abc import Callable, Generator
from typing import Final, TypeVar

from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs import Pause, RemoteFile, Source, TransientError
from lorafinetune_stages.hubs.origin import Origin

ATTEMPTS: Final = 5
"""Failures in a row after which it is given up; 15 seconds of waiting in all."""
MAX_WAIT_SECONDS: Final = 120.0
"""The longest wait that a server may ask for: nobody sees why a stage sleeps longer."""
PROGRESS_BYTES: Final = 2**20
"""What must have come between two failures for them not to be in a row."""

Done = TypeVar("Done")


class Backoff:
    """Counts failures in a row, and waits after each: 1, 2, 4, 8 seconds, or what the server asks for."""

    def __init__(self, pause: Pause) -> None:
        self._pause = pause
        self._failures = 0

    def renew(self) -> None:
        """There was progress."""
        self._failures = 0

    def wait(self, problem: TransientError) -> None:
        """Raises the problem's StageError when it is time to give up."""
        self._failures += 1
        if self._failures >= ATTEMPTS:
            raise problem.error from problem
        usual = 2.0 ** (self._failures - 1)
        self._pause(usual if problem.wait is None else min(problem.wait, MAX_WAIT_SECONDS))


def retry(attempt: Callable[[], Done], pause: Pause) -> Done:
    """The result of `attempt`, which is tried again while it raises TransientError."""
    backoff = Backoff(pause)
    while True:
        try:
            return attempt()
        except TransientError as problem:
            backoff.wait(problem)


def resumed(origin: Origin, source: Source, file: RemoteFile, pause: Pause) -> Generator[bytes]:
    """The whole content of a file: a stream that breaks goes on where it broke."""
    backoff, position = Backoff(pause), 0
    while position < file.size:
        begin = position
        try:
            for chunk in source.stream(file, position):
                position += len(chunk)
                if position > file.size:
                    raise origin.corrupt(f"sends more than the {file.size} bytes of {file.path}")
                yield chunk
            if position < file.size:
                raise TransientError(_cut(origin, file, position))
        except TransientError as problem:
            if position - begin >= PROGRESS_BYTES:
                backoff.renew()
            backoff.wait(problem)


def _cut(origin: Origin, file: RemoteFile, position: int) -> StageError:
    return origin.corrupt(f"ends {file.path} after {position} of {file.size} bytes")
