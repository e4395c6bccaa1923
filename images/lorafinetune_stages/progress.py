"""Progress of a running stage: the latest state in one small file, replaced whole.

It decides nothing; whoever runs the stage may look at it or not.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from lorafinetune.api.status import StageName
from lorafinetune.contract.arguments import PROGRESS_VARIABLE
from lorafinetune.contract.outcome import Progress

MIN_INTERVAL_SECONDS = 0.2


class Reporter:
    """Keeps the progress of one stage and writes it, at most five times a second. Thread-safe."""

    def __init__(
        self, stage: StageName, path: Path | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stage: StageName = stage
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._written = float("-inf")
        self._began, self._before = clock(), 0
        self._latest = Progress(stage=stage)

    @classmethod
    def from_environment(cls, stage: StageName) -> "Reporter":
        path = os.environ.get(PROGRESS_VARIABLE)
        return cls(stage, Path(path) if path else None)

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

    def advance(self, count: int) -> None:
        """`count` more units are done."""
        with self._lock:
            self._set_done(self._latest.done + count)

    def update(self, **changes: object) -> None:
        """Replaces fields of the progress, by their Python names; `done` gives rate and ETA too."""
        with self._lock:
            self._latest = self._latest.model_copy(update=changes)
            self._set_done(self._latest.done)

    def flush(self) -> None:
        """Writes the latest progress, however short a time ago the last was written."""
        with self._lock:
            self._write()

    def _set_done(self, done: int) -> None:
        elapsed = max(self._clock() - self._began, 1e-9)
        rate, total = (done - self._before) / elapsed, self._latest.total
        left = round((total - done) / rate) if total and rate else None
        self._latest = self._latest.model_copy(
            update={
                "done": done,
                "rate": f"{rate:.2f}",
                "eta_seconds": max(left, 0) if left is not None else None,
            }
        )
        if self._clock() - self._written >= MIN_INTERVAL_SECONDS or done == total:
            self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        self._written = self._clock()
        partial = self._path.with_suffix(".partial")
        partial.write_text(self._latest.model_dump_json(by_alias=True, exclude_none=True))
        partial.replace(self._path)
