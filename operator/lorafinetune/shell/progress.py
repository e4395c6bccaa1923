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
        self._told: dict[Key, _Latest] = {}

    def accept(self, job: Key, progress: Progress) -> float:
        """Takes in what a pod has posted. Returns after how many seconds it may be shown."""
        now = self._clock()
        told = self._told.get(job)
        if told is None:
            self._told[job] = told = _Latest(progress, now, now)
        told.newest, told.at = progress, now
        return told.pause(now)

    def shown(self, job: Key) -> Progress | None:
        """What the status may show of a Job now."""
        told = self._told.get(job)
        if told is None:
            return None
        now = self._clock()
        if told.shown is not told.newest and not told.pause(now):
            told.shown, told.shown_at = told.newest, now
        return told.shown

    def pending(self, job: Key) -> float | None:
        """Seconds until something newer may be shown; None where there is nothing newer."""
        told = self._told.get(job)
        if told is None or told.shown is told.newest:
            return None
        return told.pause(self._clock())

    def forget(self, job: Key) -> None:
        self._told.pop(job, None)

    def ages(self) -> dict[Key, float]:
        """Seconds since the last post, by Job."""
        now = self._clock()
        return {job: now - told.at for job, told in self._told.items()}

    def tokens_per_second(self) -> dict[Key, int]:
        """Of each training that told it, by Job."""
        told = {job: told.newest.training for job, told in self._told.items()}
        return {job: training.tokens_per_second or 0 for job, training in told.items() if training}
