"""Jobs that could not be created, for as long as it makes no sense to try again."""

from collections.abc import Callable
from typing import Final

from lorafinetune.shell.index import Key

TRIED_AGAIN_AFTER: Final = 25.0
"""Seconds. Less than the pause after which the plan looks again, so that each look is a try."""


class Refusals:
    """By namespace and name of the Job: what was answered, or None where another object has the name."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: dict[Key, tuple[float, str | None]] = {}

    def add(self, job: Key, message: str | None) -> None:
        self._told[job] = (self._clock() + TRIED_AGAIN_AFTER, message)

    def taken(self, namespace: str) -> frozenset[str]:
        """Names that other objects have."""
        return frozenset(name for name, message in self._of(namespace).items() if message is None)

    def refused(self, namespace: str) -> dict[str, str]:
        """What the API server answered, by name."""
        return {name: message for name, message in self._of(namespace).items() if message is not None}

    def _of(self, namespace: str) -> dict[str, str | None]:
        now = self._clock()
        self._told = {job: told for job, told in self._told.items() if told[0] > now}
        return {name: message for (place, name), (_, message) in self._told.items() if place == namespace}
