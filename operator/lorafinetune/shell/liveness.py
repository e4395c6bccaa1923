"""Whether the watches are alive: each is opened anew every minute, so one that was not is dead."""

from collections.abc import Callable, Iterable
from typing import Final

from lorafinetune.shell.client import WATCH_SECONDS
from lorafinetune.shell.paths import INDEXED, Call

WATCHED: Final = (*INDEXED, "events")
STALE_AFTER: Final = 2.5 * WATCH_SECONDS
"""Seconds without a sign of life after which what the index holds may be old."""
DEAD_AFTER: Final = 10 * WATCH_SECONDS
"""Seconds after which only a restart can help."""

Watch = tuple[str, str | None]
"""Plural of the kind, and namespace."""


class WatchLiveness:
    """When each watch was opened last. namespaces: None is the whole cluster."""

    def __init__(self, namespaces: Iterable[str | None], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._opened: dict[Watch, float | None] = {
            (plural, namespace): None for plural in WATCHED for namespace in namespaces
        }

    def record(self, call: Call, code: int) -> None:
        """Takes note of an answer of the API server."""
        watch = (call.plural, call.namespace)
        if call.verb == "watch" and code == 200 and watch in self._opened:
            self._opened[watch] = self._clock()

    def is_open(self, plural: str, namespace: str | None) -> bool:
        return self._opened[plural, namespace] is not None

    def silent(self, longer_than: float) -> list[str]:
        """The watches that gave no sign of life for so many seconds."""
        return [
            f"{plural} in {namespace}" if namespace else plural
            for (plural, namespace), age in self._ages().items()
            if age > longer_than
        ]

    def longest(self) -> dict[tuple[str], float]:
        """Seconds since the watch of each kind was opened, in the namespace where that is longest ago."""
        found: dict[tuple[str], float] = {}
        for (plural, _), age in self._ages().items():
            found[plural,] = max(age, found.get((plural,), 0.0))
        return found

    def _ages(self) -> dict[Watch, float]:
        now = self._clock()
        return {
            watch: now - (self._began if opened is None else opened) for watch, opened in self._opened.items()
        }
