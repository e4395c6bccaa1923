"""Progress of a running stage: the latest state in one small file, replaced whole, or posted.

It decides nothing; whoever runs the stage may look at it or not.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lorafinetune.api.status import StageName
from lorafinetune.contract.arguments import PROGRESS_URL_VARIABLE, PROGRESS_VARIABLE
from lorafinetune.contract.outcome import MAX_ETA_SECONDS, Progress

if TYPE_CHECKING:
    from lorafinetune_stages.push import Pusher

MIN_INTERVAL_SECONDS: Final = 0.2
MAX_RATE: Final = 999_999_999.0


class Reporter:
    """Keeps the progress of one stage and writes it, at most five times a second. Thread-safe."""

    def __init__(
        self,
        stage: StageName,
        path: Path | None,
        clock: Callable[[], float] = time.monotonic,
        pusher: "Pusher | None" = None,
    ) -> None:
        self._stage: StageName = stage
        self._path = path
        self._clock = clock
        self._pusher = pusher
        self._lock = threading.Lock()
        self._written = float("-inf")
        self._began, self._before = clock(), 0
        self._latest = Progress(stage=stage)

    @classmethod
    def from_environment(cls, stage: StageName) -> "Reporter":
        path = os.environ.get(PROGRESS_VARIABLE)
        return cls(stage, Path(path) if path else None, pusher=_pusher())

    def begin(self, activity: str, total: int | None, unit: str, done: int = 0) -> None:
        """A new activity. done: units that an earlier attempt did; rate and ETA don't count them."""
        with self._lock:
            self._began, self._before = self._clock(), done
            self._latest = self._latest.model_copy(
                update={
                    "activity": activity,
                    "done": done,
                    "total": total,
                    "unit": unit,
                    "rate": None,
                    "eta_seconds": None,
                }
            )
            self._write()
            self._offer(urgent=True)

    def advance(self, count: int) -> None:
        """`count` more units are done."""
        with self._lock:
            self._set_done(self._latest.done + count)

    def update(self, **changes: object) -> None:
        """Replaces fields of the progress, by their Python names; `done` gives rate and ETA too."""
        with self._lock:
            self._latest = self._latest.model_copy(update=changes)
            self._set_done(self._latest.done, urgent="checkpoint_step" in changes)

    def flush(self) -> None:
        """Writes the latest progress, however short a time ago the last was written, and posts it, unless
        that takes a second."""
        with self._lock:
            self._write()
        if self._pusher:
            self._pusher.flush()

    def hand_over(self) -> None:
        """From here on another process reports the stage's progress, and this one keeps silent."""
        self.flush()
        self.silence()

    def silence(self) -> None:
        """Nothing more is said of the progress here."""
        with self._lock:
            self._path = self._pusher = None

    def _set_done(self, done: int, urgent: bool = False) -> None:
        elapsed = max(self._clock() - self._began, 1e-9)
        rate, total = min(max(done - self._before, 0) / elapsed, MAX_RATE), self._latest.total
        left = (total - done) / rate if total and rate else None
        self._latest = self._latest.model_copy(
            update={
                "done": done,
                "rate": f"{rate:.2f}" if rate >= 1 else f"{rate:.4f}",
                "eta_seconds": round(min(max(left, 0), MAX_ETA_SECONDS)) if left is not None else None,
            }
        )
        if self._clock() - self._written >= MIN_INTERVAL_SECONDS or done == total:
            self._write()
        self._offer(urgent)

    def _offer(self, urgent: bool) -> None:
        if self._pusher:
            self._pusher.offer(self._latest, urgent)

    def _write(self) -> None:
        if self._path is None:
            return
        self._written = self._clock()
        partial = self._path.with_suffix(".partial")
        partial.write_text(self._latest.model_dump_json(by_alias=True, exclude_none=True))
        partial.replace(self._path)


def _pusher() -> "Pusher | None":
    """Imported here: a stage that posts nothing needs neither HTTP nor TLS."""
    if not os.environ.get(PROGRESS_URL_VARIABLE):
        return None
    from lorafinetune_stages.push import Pusher, Receiver

    return Pusher(Receiver.from_environment())
