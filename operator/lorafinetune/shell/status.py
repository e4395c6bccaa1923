"""Health and metrics over plain HTTP, for probes and Prometheus."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from lorafinetune.shell.liveness import DEAD_AFTER, STALE_AFTER, WatchLiveness
from lorafinetune.shell.settings import Address

PLAIN: Final = "text/plain"


class Health:
    """Alive: no watch is dead. Ready: the index is complete, and no watch is stale."""

    def __init__(self, liveness: WatchLiveness) -> None:
        self._liveness = liveness
        self.complete = False

    def troubles(self) -> list[str]:
        """Why only a restart can help."""
        return [f"the watch of {watch} is dead" for watch in self._liveness.silent(DEAD_AFTER)]

    def delays(self) -> list[str]:
        """Why what is known may be old."""
        begun = [] if self.complete else ["the first lists are not complete"]
        return begun + [f"the watch of {watch} is stale" for watch in self._liveness.silent(STALE_AFTER)]


async def serve(address: Address, health: Health, registry: CollectorRegistry) -> web.AppRunner:
    """Answers until the runner is cleaned up."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", _probe(health.troubles))
    app.router.add_get("/readyz", _probe(health.delays))
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, address.host, address.port).start()
    return runner


def _probe(wrong: Callable[[], list[str]]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.StreamResponse:
        found = wrong()
        return web.Response(text="\n".join(found or ["ok"]) + "\n", status=503 if found else 200)

    return answer
