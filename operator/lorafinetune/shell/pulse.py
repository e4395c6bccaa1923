"""Whether the watches get on: each is opened anew every minute, so one that was not is dead."""

from collections.abc import Callable, Iterable
from typing import Final

from lorafinetune.shell.client import WATCH_SECONDS
from lorafinetune.shell.paths import Call

WATCHED: Final = ("lorafinetunes", "jobs", "pods", "events")
STALE_AFTER: Final = 2.5 * WATCH_SECONDS
"""Seconds without a sign of life after which what the index holds may be old."""
DEAD_AFTER: Final = 10 * WATCH_SECONDS
"""Seconds after which only a restart can help."""

Watch = tuple[str, str | None]
"""Plural of the kind, and namespace."""


class Pulse:
    """When each watch was opened last. namespaces: None is the whole cluster."""

    def __init__(self, namespaces: Iterable[str | None], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._opened: dict[Watch, float | None] = {
            (plural, namespace): None for plural in WATCHED for namespace in namespaces
        }

    def notice(self, call: Call, code: int) -> None:
        """Takes note of an answer of the API server."""
        watch = (call.plural, call.namespace)
        if call.verb == "watch" and code == 200 and watch in self._opened:
            self._opened[watch] = self._clock()

    def is_open(self, plural: str, namespace: str | None) -> bool:
        return self._opened[plural, namespace] is not None

    def silent(self, longer_than: float) -> list[str]:
        """The watches that gave no sign of life for so many seconds."""
        now = self._clock()
        return [
            f"{plural} in {namespace}" if namespace else plural
            for (plural, namespace), opened in self._opened.items()
            if now - (self._began if opened is None else opened) > longer_than
        ]
