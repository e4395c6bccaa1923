"""What can go wrong, and where: a point is one fault at one write of a life, or at one event of a watch."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

WRITE: Final = "write"
KILLS: Final = ("killed before", "killed after")
WRITE_FAULTS: Final = (*KILLS, "409", "429", "500", "cut", "answer lost", "slow")
STREAM_FAULTS: Final = ("silent", "410 Gone")
EVENT_FAULTS: Final = ("dropped", "repeated", "out of order", *STREAM_FAULTS)
WATCHES: Final = ("lorafinetunes", "jobs", "pods", "events")
OWN_PROCESS: Final = frozenset(KILLS + STREAM_FAULTS)
"""Faults that hit a process or a stream as a whole: no other life shares them."""

T = TypeVar("T")


@dataclass(frozen=True)
class Point:
    """what: WRITE, or whose watch. number: which write or event of the life, from 1."""

    what: str
    number: int
    fault: str

    def __str__(self) -> str:
        return f"{self.what} {self.number}, {self.fault}"


def points(writes: int, events: Mapping[str, int]) -> list[Point]:
    """Every fault at each write, and at each event of each watch. events: by whose watch."""
    at_writes = (Point(WRITE, k, fault) for fault in WRITE_FAULTS for k in range(1, writes + 1))
    at_events = (
        Point(watch, k, fault)
        for watch in WATCHES
        for fault in EVENT_FAULTS
        for k in range(1, events.get(watch, 0) + 1)
    )
    return [*at_writes, *at_events]


def part(given: Iterable[T], share: float, seed: int) -> list[T]:
    """A share of them, in their order; the same one for the same seed."""
    every: Sequence[T] = tuple(given)
    chosen = random.Random(seed).sample(range(len(every)), round(share * len(every)))
    return [every[index] for index in sorted(chosen)]
