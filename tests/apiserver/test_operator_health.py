"""What the probes of the real process say while a watch is not answered, and afterwards."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError

from apiserver.operating import WITHIN, Namespace, Operator
from cluster.apiserver import ApiServer
from cluster.process import fetch
from faults.proxy import Proxy

STALE, DEAD = 3, 8
HASTE = (
    "lorafinetune.shell.client:WATCH_SECONDS=1",
    "lorafinetune.shell.watcher:WATCH_SECONDS=1",
    f"lorafinetune.shell.status:STALE_AFTER={STALE}",
    f"lorafinetune.shell.status:DEAD_AFTER={DEAD}",
)
"""As much of each other as in earnest: a watch lasts a minute, and is dead after ten."""


def test_a_silent_watch_makes_it_unready_and_then_unhealthy_until_it_is_answered_again(
    served: ApiServer, own_namespace: Namespace, identity: Path, tmp_path: Path
) -> None:
    asyncio.run(silenced(served, own_namespace, identity, tmp_path))


async def silenced(server: ApiServer, namespace: Namespace, identity: Path, folder: Path) -> None:
    authority = ssl.create_default_context(cafile=str(server.ca_file))
    async with Proxy(server.url, authority).serving() as proxy:
        behind = folder / "behind-the-proxy.kubeconfig"
        behind.write_text(identity.read_text().replace(server.url, proxy.url))
        operator = Operator(behind, folder / "operator.log", namespace.name, haste=HASTE)
        operator.launch()
        try:
            await until(lambda: probe(operator, "readyz") == (200, "ok"))
            proxy.unanswered.add("jobs")
            stale = f"the watch of jobs in {namespace.name} is stale"
            await until(lambda: probe(operator, "readyz") == (503, stale))
            assert await asyncio.to_thread(probe, operator, "healthz") == (200, "ok")
            dead = f"the watch of jobs in {namespace.name} is dead"
            await until(lambda: probe(operator, "healthz") == (503, dead))
            proxy.unanswered.clear()
            await until(lambda: probe(operator, "healthz") == probe(operator, "readyz") == (200, "ok"))
            await asyncio.to_thread(namespace.apply, "afterwards")
            await asyncio.to_thread(namespace.finish, "afterwards", "download")
            await asyncio.to_thread(namespace.job, "afterwards", "prepare")
        finally:
            await asyncio.to_thread(operator.stop)


async def until(holds: Callable[[], bool]) -> None:
    """Waits in other threads: the proxy works in this one."""
    async with asyncio.timeout(WITHIN):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.1)


def probe(operator: Operator, path: str) -> tuple[int, str]:
    """The answer to a probe; 0 where there is none."""
    try:
        return 200, fetch(f"{operator.url}/{path}").decode().strip()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode().strip()
    except OSError:
        return 0, ""
