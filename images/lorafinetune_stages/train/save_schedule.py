"""When the state of a training is saved: by steps, by passes over the data, or by the clock."""

import time
from collections.abc import Callable
from typing import Final

MINUTES: Final = "m"


class SaveSchedule:
    """every: as `training.checkpoint.every` has it."""

    def __init__(self, every: int | str, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._clock = clock
        self._since = clock()

    def note(self) -> None:
        """It was saved just now, or the training has begun."""
        self._since = self._clock()

    def is_due_after(self, step: int, epoch: float) -> bool:
        """Whatever the time: so that ranks agree. epoch: passes over the data so far."""
        if isinstance(self._every, int):
            return step % self._every == 0
        return self._every == "epoch" and epoch.is_integer()

    @property
    def is_due_by_now(self) -> bool:
        if isinstance(self._every, int) or not self._every.endswith(MINUTES):
            return False
        return self._clock() - self._since >= 60 * int(self._every.removesuffix(MINUTES))
