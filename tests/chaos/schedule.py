"""What is done to a run, and when: drawn from a seed, so that a wrong end can be had again."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MOST: Final = 3
"""So many disturbances a run has, at most."""
RUN: Final = (
    "the operator killed",
    "a pod deleted",
    "a pod deleted without grace",
    "a pod evicted",
    "a Job deleted in the background",
    "a Job deleted in the foreground",
    "a Job deleted, its pods orphaned",
    "the Secret wrong for a while",
    "the Secret away for a while",
    "deleted and applied again",
    "suspended and resumed",
    "edited and edited back",
)
"""What whoever uses or runs the product does to one run, on any cluster."""
CLUSTER: Final = (
    "the kubelet killed",
    "the kubelet silent for a while",
    "containerd killed",
    "the API server killed",
    "the API server silent for a while",
    "etcd killed",
    "the store silent for a while",
    "no way to the store for a while",
    "the operator cut off for a while",
    "the node drained",
)
"""What strikes all that runs, for which the cluster must be ours."""
EXPLAINS: Final[Mapping[str, frozenset[str]]] = {
    "the store silent for a while": frozenset({"StorageUnavailable"}),
    "no way to the store for a while": frozenset({"StorageUnavailable"}),
}
"""With which reasons a run may give up after what; after all else it must complete."""


@dataclass(frozen=True)
class Strike:
    """at: when, as a part of the time that a run takes when it is left alone."""

    at: float
    what: str


@dataclass(frozen=True)
class Schedule:
    """Of one run, which has a number from 1."""

    number: int
    strikes: tuple[Strike, ...]

    def __str__(self) -> str:
        return ", ".join(f"{strike.what} at {strike.at:.0%}" for strike in self.strikes)


def draw(seed: int, runs: int, names: Sequence[str] = (*RUN, *CLUSTER)) -> list[Schedule]:
    """Schedules of so many runs. All names come up equally often, in an order that the seed decides."""
    chance = random.Random(seed)
    deck: list[str] = []
    schedules = []
    for number in range(1, runs + 1):
        count = chance.randint(1, MOST)
        while len(deck) < count:
            deck += chance.sample(names, len(names))
        moments = sorted(round(chance.random(), 2) for _ in range(count))
        schedules.append(Schedule(number, tuple(Strike(at, deck.pop(0)) for at in moments)))
    return schedules
