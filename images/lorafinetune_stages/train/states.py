"""Where the states of a training lie: each attempt has a path of its own, which no other attempt writes to.

An attempt that was frozen in the middle of a write may wake up long after another has taken its place. It
must not write or remove what belongs to its successor then, and to check beforehand whether there is one
can't prevent that.
"""

from collections import Counter
from dataclasses import dataclass

from lorafinetune.contract.arguments import state_path
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.manifest import MANIFEST


@dataclass(frozen=True, order=True)
class State:
    """What an attempt left of a step, at STEP/ATTEMPT. Attempts count from 1: an older version left a state
    at STEP itself, which has attempt 0 here."""

    step: int
    attempt: int

    @property
    def path(self) -> str:
        return state_path(self.step, self.attempt)


def states_at(store: Store, place: str) -> dict[State, bool]:
    """The states of which there is anything at `place`, the newest step first, of each step the newest
    attempt. Each with whether it has a manifest."""
    found = Counter[State]()
    for entry in store.list(place):
        *where, name = entry.key.removeprefix(f"{place}/").split("/")
        if state := _state(where):
            found[state] += name == MANIFEST
    return {state: found[state] > 0 for state in sorted(found, reverse=True)}


def _state(where: list[str]) -> State | None:
    if len(where) not in (1, 2) or not all(part.isascii() and part.isdecimal() for part in where):
        return None
    step, attempt = (*map(int, where), 0)[:2]
    return State(step, attempt)
