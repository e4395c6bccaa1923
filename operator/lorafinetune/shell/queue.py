"""Which resource is reconciled next, and when: one queue for all, never one resource twice at a time.

What is added while a resource waits is one reconciliation; what is added while it is being reconciled is one
more. A reconciliation that failed is repeated after a pause that grows.
"""

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

K = TypeVar("K")

FIRST_RETRY: Final = 0.1
LONGEST_RETRY: Final = 60.0
"""Seconds."""


@dataclass(frozen=True)
class QueueItem(Generic[K]):
    """A key whose time has come. due: when it should have been reconciled, in seconds of the clock."""

    key: K
    due: float


class WorkQueue(Generic[K]):
    """Keys with the time at which each is due. It is not thread-safe: one event loop uses it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: dict[K, float] = {}
        self._order: list[tuple[float, int, K]] = []
        self._pushed = 0
        self._running: set[K] = set()
        self._again: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._changed = asyncio.Event()

    def add(self, key: K, after: float = 0) -> None:
        """Reconcile a key, at the latest after so many seconds."""
        due = self._clock() + after
        waiting = self._again if key in self._running else self._due
        if key in waiting and waiting[key] <= due:
            return
        waiting[key] = due
        if waiting is self._due:
            self._push(key, due)

    def take(self) -> QueueItem[K] | None:
        """The key that is due longest, which is then being reconciled until `done` or `failed`."""
        while self._order and self._order[0][0] <= self._clock():
            due, _, key = heapq.heappop(self._order)
            if self._due.get(key) == due:
                del self._due[key]
                self._running.add(key)
                return QueueItem(key, due)
        return None

    async def get(self) -> QueueItem[K]:
        """Waits until a key is due. For one caller at a time."""
        while (item := self.take()) is None:
            self._changed.clear()
            pause = self._order[0][0] - self._clock() if self._order else None
            try:
                await asyncio.wait_for(self._changed.wait(), pause)
            except TimeoutError:
                continue
        return item

    def done(self, key: K, after: float | None = None) -> None:
        """It went well. after: once more after so many seconds."""
        self._failures.pop(key, None)
        self._finish(key)
        if after is not None:
            self.add(key, after)

    def failed(self, key: K) -> float:
        """It failed. Returns after how many seconds it is repeated."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        pause = min(FIRST_RETRY * float(1 << min(failures, 30)), LONGEST_RETRY)
        self._again.pop(key, None)
        self._finish(key)
        self.add(key, pause)
        return pause

    def depth(self) -> int:
        """How many keys are due and wait for their turn."""
        now = self._clock()
        return sum(due <= now for due in self._due.values())

    def _finish(self, key: K) -> None:
        self._running.discard(key)
        if (due := self._again.pop(key, None)) is not None:
            self._due[key] = due
            self._push(key, due)

    def _push(self, key: K, due: float) -> None:
        self._pushed += 1
        heapq.heappush(self._order, (due, self._pushed, key))
        self._changed.set()
