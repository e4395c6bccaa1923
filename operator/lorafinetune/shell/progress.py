"""The newest progress of running Jobs: in memory alone, and shown in the status at a bounded pace.

What is shown stays the same between two showings, so progress alone never makes a plan differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lorafinetune.contract.outcome import Progress
from lorafinetune.shell.index import Key

LEAST_SECONDS: Final = 5.0
SHARE: Final = 50
"""A run that goes on for long shows its progress less often: one more time for 2 % of its age."""


@dataclass
class _Latest:
    newest: Progress
    at: float
    began: float
    shown: Progress | None = None
    shown_at: float = 0.0

    def pause(self, now: float) -> float:
        """Seconds until the newest may be shown."""
        if self.shown is None:
            return 0.0
        return max(0.0, self.shown_at + max(LEAST_SECONDS, (now - self.began) / SHARE) - now)


class ProgressMemory:
    """By namespace and name of the Job."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._latest: dict[Key, _Latest] = {}

    def accept(self, job: Key, progress: Progress) -> float:
        """Takes in what a pod has posted. Returns after how many seconds it may be shown."""
        now = self._clock()
        latest = self._latest.get(job)
        if latest is None:
            self._latest[job] = latest = _Latest(progress, now, now)
        latest.newest, latest.at = progress, now
        return latest.pause(now)

    def shown(self, job: Key) -> Progress | None:
        """What the status may show of a Job now."""
        latest = self._latest.get(job)
        if latest is None:
            return None
        now = self._clock()
        if latest.shown is not latest.newest and not latest.pause(now):
            latest.shown, latest.shown_at = latest.newest, now
        return latest.shown

    def pending(self, job: Key) -> float | None:
        """Seconds until something newer may be shown; None where there is nothing newer."""
        latest = self._latest.get(job)
        if latest is None or latest.shown is latest.newest:
            return None
        return latest.pause(self._clock())

    def forget(self, job: Key) -> None:
        self._latest.pop(job, None)

    def ages(self) -> dict[Key, float]:
        """Seconds since the last post, by Job."""
        now = self._clock()
        return {job: now - latest.at for job, latest in self._latest.items()}

    def tokens_per_second(self) -> dict[Key, int]:
        """Of each training that told it, by Job."""
        training_of = {job: latest.newest.training for job, latest in self._latest.items()}
        return {job: training.tokens_per_second or 0 for job, training in training_of.items() if training}
