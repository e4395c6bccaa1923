"""One API server with everything around it: a proxy, a kubelet, and a ledger that watches past the proxy."""

import asyncio
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from apiserver.identity import operator_kubeconfig
from builders import document
from cluster.apiserver import ApiServer
from faults.kubelet import OURS_QUERY, Kubelet, follow
from faults.ledger import Ledger
from faults.nursery import Nursery, is_alive
from faults.proxy import Proxy
from lorafinetune.shell.client import ApiError, Client
from lorafinetune.shell.connection import ServerConnection
from lorafinetune.shell.paths import path

NAME: Final = "life"
"""Of every resource, so that ends can be compared."""
POLL: Final = 0.05

Object = dict[str, Any]


@dataclass
class World:
    """What tests act on. client: an administrator's, past the proxy. numbers: for names, each given once."""

    client: Client
    proxy: Proxy
    kubelet: Kubelet
    ledger: Ledger
    nursery: Nursery
    folder: Path
    kubeconfig: Path
    numbers: Iterator[int] = field(default_factory=count)

    async def namespace(self, name: str) -> None:
        """Makes a namespace in which Pods can be made."""
        await self.client.create("/api/v1/namespaces", {"metadata": {"name": name}})
        account = {"metadata": {"name": "default"}}
        try:
            await self.client.create(f"/api/v1/namespaces/{name}/serviceaccounts", account)
        except ApiError as problem:
            if problem.reason != "AlreadyExists":
                raise

    async def create(self, namespace: str, spec: Mapping[str, Any]) -> None:
        """spec: the whole of it: what it does not say is left to the API server."""
        made = document() | {"metadata": {"name": NAME}, "spec": spec}
        await self.client.create(path("lorafinetunes", namespace), made)

    async def edit(self, namespace: str, spec: Mapping[str, Any]) -> None:
        """spec: what of it changes."""
        await self.client.patch(path("lorafinetunes", namespace, NAME), {"spec": spec})

    async def handed(self, namespace: str, name: str) -> Object:
        """What a ConfigMap says; nothing where there is none."""
        try:
            data: Object = (await self.client.get(path("configmaps", namespace, name)))["data"]
        except ApiError as problem:
            if problem.reason != "NotFound":
                raise
            return {}
        return data

    def operator(self, namespaces: str = "") -> "Operator":
        return Operator(self, namespaces)


class Operator:
    """An operator behind the proxy, which can be killed and started again. namespaces: all, where empty."""

    def __init__(self, world: World, namespaces: str) -> None:
        self.log = world.folder / f"operator-{namespaces or 'all'}.log"
        self._world = world
        self._namespaces = namespaces
        self._pid = 0

    def start(self) -> None:
        environment = {
            "KUBECONFIG": str(self._world.kubeconfig),
            "LORAFINETUNE_DOWNLOAD_IMAGE": "example.com/download:1",
            "LORAFINETUNE_TRAIN_IMAGE": "example.com/train:1",
            "LORAFINETUNE_NAMESPACES": self._namespaces,
            "LORAFINETUNE_STATUS_ADDRESS": "127.0.0.1:0",
        }
        self._pid = self._world.nursery.start("faults.programs:operator", [], environment, self.log)

    async def kill(self) -> None:
        if self._pid and is_alive(self._pid):
            os.kill(self._pid, signal.SIGKILL)
        while self._pid and is_alive(self._pid):
            await asyncio.sleep(0.002)
        self._pid = 0

    async def restart(self) -> None:
        await self.kill()
        self.start()


@asynccontextmanager
async def around(server: ApiServer, folder: Path) -> AsyncIterator[World]:
    """The world around an API server that serves our resource, and has its controllers."""
    authority = ssl.create_default_context(cafile=str(server.ca_file))
    connection = ServerConnection(server.url, authority, lambda: {"Authorization": f"Bearer {server.token}"})
    ours = operator_kubeconfig(server, folder)
    with Nursery("faults.programs") as nursery:
        async with (
            connection.session(lambda *_: None) as session,
            Proxy(server.url, authority).serving() as proxy,
        ):
            client = Client(session, server.url)
            behind = folder / "behind-the-proxy.kubeconfig"
            behind.write_text(ours.read_text().replace(server.url, proxy.url))
            made = World(client, proxy, Kubelet(client), Ledger(), nursery, folder, behind)
            async with _running(made):
                yield made


@asynccontextmanager
async def _running(made: World) -> AsyncIterator[None]:
    takers = {"lorafinetunes": made.ledger.resource, "jobs": made.ledger.job, "pods": made.ledger.pod}
    queries = {"lorafinetunes": {}, "jobs": OURS_QUERY, "pods": OURS_QUERY}
    async with asyncio.TaskGroup() as tasks:
        begun = [
            tasks.create_task(follow(made.client, plural, dict(queries[plural]), take))
            for plural, take in takers.items()
        ]
        begun.append(tasks.create_task(made.kubelet.run()))
        try:
            yield
        finally:
            for task in begun:
                task.cancel()


async def until(holds: Callable[[], object], within: float) -> bool:
    """Whether it came to hold in time (seconds)."""
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL)
    return True
