"""kopf's part: it watches three kinds, and each event enters the index and enqueues a resource. Nothing else.

Its handlers of changes, timers and daemons would put finalizers and annotations on the resources, and it
swallows what a handler raises; so nothing is decided in one.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import aiohttp
import kopf

from lorafinetune.shell.client import PAGE, WATCH_SECONDS
from lorafinetune.shell.paths import INDEXED, VERSIONS
from lorafinetune.shell.projections import Object

OnEvent = Callable[[str, str | None, Object], None]
"""Is called with the plural of a kind, the type of the event (None: of a list), and the object."""

IDLE_SECONDS: Final = 0.05
"""How long kopf keeps an object, untrimmed, after its last event."""


class Backoffs(Iterable[float]):
    """Seconds between tries of a list or a watch; it is never given up."""

    def __iter__(self) -> Iterator[float]:
        yield from (0.2, 0.5, 1, 2)
        while True:
            yield 5


class _NoDifferences(kopf.DiffBaseStorage):
    """Keeps no last state on the objects, and spares the copies of it."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None: ...

    def store(self, **_: Any) -> None: ...


class _NoProgress(kopf.ProgressStorage):
    """Keeps no progress of handlers on the objects: there is none."""

    def fetch(self, **_: Any) -> None: ...

    def store(self, **_: Any) -> None: ...

    def purge(self, **_: Any) -> None: ...

    def touch(self, **_: Any) -> None: ...

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def settings() -> kopf.OperatorSettings:
    """kopf without anything that writes."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.scanning.disabled = True
    made.networking.error_backoffs = Backoffs()
    made.queueing.idle_timeout = IDLE_SECONDS
    made.queueing.exit_timeout = 0.5
    made.watching.chunk_size = PAGE // 5
    made.watching.server_timeout = WATCH_SECONDS
    made.watching.inactivity_timeout = 1.5 * WATCH_SECONDS
    made.persistence.diffbase_storage = _NoDifferences()
    made.persistence.progress_storage = _NoProgress()
    for plural, labels in INDEXED.items():
        if labels:
            made.watching.label_selectors[_kind(plural)] = labels
    return made


def _kind(plural: str) -> tuple[str, str, str]:
    """As kopf names a kind: its group, version and plural."""
    group, _, version = VERSIONS[plural].rpartition("/")
    return group, version, plural


def registry(on_event: OnEvent, login: Callable[[], kopf.AiohttpSession]) -> kopf.OperatorRegistry:
    """The handlers: one a kind."""
    made = kopf.OperatorRegistry()

    @kopf.on.login(registry=made)
    async def log_in(**_: Any) -> kopf.AiohttpSession:
        return login()

    for plural in INDEXED:
        kopf.on.event(*_kind(plural), id=plural, registry=made)(_handler(plural, on_event))
    return made


def _handler(plural: str, on_event: OnEvent) -> Callable[..., Any]:
    async def handler(event: kopf.RawEvent, **_: Any) -> None:
        on_event(plural, event["type"], event["object"])

    return handler


async def watch(
    on_event: OnEvent,
    session: Callable[[], aiohttp.ClientSession],
    server: str,
    namespaces: Iterable[str],
    began: Callable[[], None],
) -> None:
    """Watches until it is cancelled. namespaces: none means the whole cluster.

    began: is called once kopf has taken the signals of the process, so that they can be taken back.
    """
    wanted = tuple(namespaces)
    others = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry(on_event, lambda: kopf.AiohttpSession(aiohttp_session=session(), server=server)),
        settings=settings(),
        standalone=True,
        clusterwide=not wanted,
        namespaces=wanted,
    )
    began()
    await kopf.run_tasks(tasks, ignored=others)
    raise RuntimeError("the watches ended")
