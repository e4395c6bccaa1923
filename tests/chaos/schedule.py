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
    "a pod deleted in the foreground",
    "a pod evicted",
    "a finished pod deleted",
    "a finished pod evicted",
    "a Job deleted in the background",
    "a Job deleted in the foreground",
    "a Job deleted, its pods orphaned",
    "a Job deleted and made again by hand",
    "the Secret wrong for a while",
    "the Secret away for a while",
    "the Secret deleted in the foreground and given again at once",
    "the keys exchanged for others",
    "the keys lapsed for a while",
    "the service account deleted",
    "deleted and applied again",
    "deleted in the foreground and applied again at once",
    "suspended and resumed",
    "edited and edited back",
    "the scratch of a training full",
)
"""What strikes one run alone."""
CLUSTER: Final = (
    "the kubelet killed",
    "the kubelet silent for a while",
    "containerd killed",
    "the API server killed",
    "the API server silent for a while",
    "etcd killed",
    "no DNS for a while",
    "the store silent for a while",
    "the store killed, and back after a while",
    "the store killed, and back at once",
    "the store full for a while",
    "the clock of the store wrong for a while",
    "the session at the store expired for a while",
    "no way to the store for a while",
    "no way back from the store for a while",
    "no way to the hub for a while",
    "no way back from the hub for a while",
    "the operator cut off for a while",
    "no way back to the operator for a while",
    "no way for progress for a while",
    "no answer to progress for a while",
    "the kubelet cut off for a while",
    "no way back to the kubelet for a while",
    "the operator's clock ahead for a while",
    "the operator's clock behind for a while",
    "the operator without rights for a while",
    "the operator's account deleted for a while",
    "the node drained",
    "the node cordoned for a while",
    "the node lost for good",
)
"""What strikes all that runs, for which the cluster must be ours."""
FOR_NOBODY_BESIDE: Final = ("the node lost for good",)
"""Of these, what others on the cluster do not survive: what they keep in pods is gone."""
EVERYTHING: Final = (*RUN, *CLUSTER)
AT_FIRST: Final = frozenset({"no way to the hub for a while", "no way back from the hub for a while"})
"""What is needed in the first seconds of a run and never again, and so strikes then."""
WHEN: Final[Mapping[str, float]] = {
    **dict.fromkeys(AT_FIRST, 0.0),
    "the scratch of a training full": 0.2,
}
"""What needs something that a run has for a part of its time strikes when it begins to have it."""
AWAY: Final = frozenset({"StorageUnavailable"})
EXPLAINS: Final[Mapping[str, frozenset[str]]] = {
    "no DNS for a while": AWAY,
    "the store silent for a while": AWAY,
    "the store killed, and back after a while": AWAY,
    "the store killed, and back at once": AWAY,
    "no way to the store for a while": AWAY,
    "no way back from the store for a while": AWAY,
    **dict.fromkeys(AT_FIRST, frozenset({"HubUnavailable"})),
}
"""With which reasons a run may give up after what; after all else it must complete.

A store that is full, or takes neither keys nor the time, is for a person to mend: the run waits, and goes on.
"""


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


def draw(seed: int, runs: int, names: Sequence[str] = EVERYTHING, most: int = MOST) -> list[Schedule]:
    """Schedules of so many runs, of one to so many strikes each. All names come up equally often, in an order
    that the seed decides."""
    chance = random.Random(seed)
    deck: list[str] = []
    schedules = []
    for number in range(1, runs + 1):
        count = chance.randint(1, most)
        while len(deck) < count:
            deck += chance.sample(names, len(names))
        moments = sorted(round(chance.random(), 2) for _ in range(count))
        strikes = [_strike(at, deck.pop(0)) for at in moments]
        schedules.append(Schedule(number, tuple(sorted(strikes, key=lambda strike: strike.at))))
    return schedules


def _strike(at: float, what: str) -> Strike:
    return Strike(WHEN.get(what, at), what)


def chosen(text: str) -> int | tuple[str, ...]:
    """What somebody wants alone: the run of a number, a disturbance, or all that have a text in their names.

    Raises ValueError where there is none.
    """
    if text.isdecimal():
        return int(text)
    names = (text,) if text in EVERYTHING else tuple(name for name in EVERYTHING if text in name)
    if not names:
        raise ValueError(f"no disturbance has {text!r} in its name")
    return names


def drawn(seed: int, runs: int, only: int | tuple[str, ...] | None) -> list[Schedule]:
    """The schedules of which there is to be nothing else than what was chosen."""
    if isinstance(only, tuple):
        return draw(seed, runs, only, most=1)
    return [schedule for schedule in draw(seed, runs) if only in (None, schedule.number)]
