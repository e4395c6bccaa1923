"""Ends a training of which a step, or a pass of an evaluation, does not end: a GPU that hangs raises nothing,
and stays held.

Time is counted in ticks of a thread of this process, so a machine or container that was frozen is not taken
for one that hangs.
"""

import faulthandler
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from threading import Event, Thread
from types import TracebackType
from typing import Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.termination import abandon

FACTOR: Final = 20
"""How many times as long as the median of those before it a step or pass may take."""
LEAST_SECONDS: Final = 600.0
"""What any may take: kernels may be compiled in it."""
FIRST_SECONDS: Final = 7200.0
"""What any may take on a GPU while nobody knows what is long. A processor may take days."""
FEWEST: Final = 3
"""Steps from which a median is taken."""
MOST: Final = 100
PERIOD_SECONDS: Final = 1.0
STEPS: Final = "steps"


class Watchdog:
    """Watches steps and passes while it is entered. end: is given the failure, on a thread of its own.
    gpus: of the training."""

    def __init__(self, gpus: int, end: Callable[[StageError], object] = abandon) -> None:
        self._end = end
        self._first = FIRST_SECONDS if gpus else math.inf
        self._took: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MOST))
        self._watched: tuple[str, str] | None = None
        """Its kind and its name."""
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
        if self._watched is None:
            self._begin(STEPS, f"step {step}")

    def step_ends(self) -> None:
        self._finish()

    @contextmanager
    def passes(self, kind: str) -> Iterator[Callable[[], None]]:
        """Of an evaluation. What is given is called where one begins, which ends the one before it. kind: in
        the plural; others may take another time."""
        try:
            yield partial(self._pass_begins, kind)
        finally:
            self._finish()

    def tick(self, seconds: float) -> None:
        """So many seconds have gone by."""
        self._seconds += seconds
        if self._watched is None:
            return
        kind, name = self._watched
        took = list(self._took[kind])
        usual = median(took) if len(took) >= FEWEST else None
        patience = self._first if usual is None else FACTOR * usual
        if self._seconds > max(LEAST_SECONDS, patience):
            self._tell(name, "" if usual is None else f", where others took {usual:.0f} s")

    def _pass_begins(self, kind: str) -> None:
        self._finish()
        self._begin(kind, f"one of the {kind}")

    def _begin(self, kind: str, name: str) -> None:
        self._seconds, self._watched = 0.0, (kind, name)

    def _finish(self) -> None:
        if self._watched:
            self._took[self._watched[0]].append(self._seconds)
        self._watched = None

    def _tell(self, name: str, usual: str) -> None:
        faulthandler.dump_traceback()
        self._end(StageError(Reason.STALLED, f"{name} did not end in {self._seconds:.0f} s{usual}"))

    def _run(self) -> None:
        while not self._left.wait(PERIOD_SECONDS):
            self.tick(PERIOD_SECONDS)
