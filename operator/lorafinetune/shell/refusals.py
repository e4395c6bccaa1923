"""Jobs that could not be created, for as long as it makes no sense to try again."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from lorafinetune.shell.index import Key

TRIED_AGAIN_AFTER: Final = 25.0
"""Seconds. Less than the pause after which the plan looks again, so that each reconciliation is a try."""
MANY: Final = 1000


@dataclass(frozen=True)
class Refused:
    """taken: names that other objects have. refused: what the API server answered, by name."""

    taken: frozenset[str]
    refused: dict[str, str]


class RefusedJobs:
    """By namespace and name of the Job: what was answered, or None where another object has the name."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._refusals: dict[Key, tuple[float, str | None]] = {}

    def add(self, job: Key, message: str | None) -> None:
        now = self._clock()
        if len(self._refusals) >= MANY:
            self._refusals = {other: refusal for other, refusal in self._refusals.items() if refusal[0] > now}
        self._refusals[job] = (now + TRIED_AGAIN_AFTER, message)

    def of(self, namespace: str, names: Iterable[str]) -> Refused:
        """What still holds of the names."""
        now = self._clock()
        refusals = {name: self._refusals.get((namespace, name), (now, None)) for name in names}
        valid = {name: message for name, (until, message) in refusals.items() if until > now}
        refused = {name: message for name, message in valid.items() if message is not None}
        return Refused(frozenset(valid.keys() - refused.keys()), refused)
