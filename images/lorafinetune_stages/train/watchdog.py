"""Ends a training whose step does not end: a GPU that hangs raises nothing, and stays held.

Time is counted in ticks of a thread of this process, so a machine or container that was frozen is not taken
for a step that hangs.
"""

import faulthandler
from collections import deque
from collections.abc import Callable
from statistics import median
from threading import Event, Thread
from types import TracebackType
from typing import Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.termination import abandon

FACTOR: Final = 20
"""How many times as long as the median of the steps before it a step may take."""
LEAST_SECONDS: Final = 600.0
"""What any step may take: kernels may be compiled in it."""
FEWEST: Final = 3
"""Steps from which a median is taken; before that nobody knows what is long."""
MOST: Final = 100
PERIOD_SECONDS: Final = 1.0


class Watchdog:
    """Watches the steps while it is entered. end: is given the failure, on a thread of its own."""

    def __init__(self, end: Callable[[StageError], object] = abandon) -> None:
        self._end = end
        self._took: deque[float] = deque(maxlen=MOST)
        self._step: int | None = None
        self._seconds = 0.0
        self._left = Event()
        self._thread = Thread(target=self._run, name="stall", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._thread.join()

    def step_begins(self, step: int) -> None:
        """Where one has begun already and was not seen to end, both count as one."""
        if self._step is None:
            self._step, self._seconds = step, 0.0

    def step_ends(self) -> None:
        self._took.append(self._seconds)
        self._step = None

    def tick(self, seconds: float) -> None:
        """So many seconds have gone by."""
        self._seconds += seconds
        step, took = self._step, list(self._took)
        if step is None or len(took) < FEWEST:
            return
        if self._seconds > max(LEAST_SECONDS, FACTOR * median(took)):
            self._tell(step, median(took))

    def _tell(self, step: int, usual: float) -> None:
        faulthandler.dump_traceback()
        said = f"step {step} did not end in {self._seconds:.0f} s, where steps took {usual:.0f} s"
        self._end(StageError(Reason.STALLED, said))

    def _run(self) -> None:
        while not self._left.wait(PERIOD_SECONDS):
            self.tick(PERIOD_SECONDS)
