"""A receiver on loopback, with a real certificate, in a thread of its own."""

import asyncio
import http.client
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self

from cluster.certificates import Authority
from lorafinetune.contract.outcome import Progress
from lorafinetune.shell.receiver.server import ReceiverSettings, Server
from lorafinetune.shell.receiver.tokens import LivePod
from shell.issuing import PODS, Cluster

HOST: Final = "127.0.0.1"
PATH: Final = "/progress"


class Api(Protocol):
    """The receiver's two ways to an API server."""

    async def read(self, path: str) -> Mapping[str, Any]: ...

    async def review(self, body: Mapping[str, Any]) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: Mapping[str, str]


class Site:
    """Serves between enter and exit, and can be entered again.

    taken: what was believed, in order. refused: why other posts were refused. pods: those that are known,
    by uid. folder: gets the certificates.
    """

    def __init__(self, folder: Path, api: Api | None = None) -> None:
        self.api = api or Cluster()
        self.pods: dict[str, LivePod] = dict(PODS)
        self.taken: list[tuple[str, str, Progress]] = []
        self.refused: list[str] = []
        self.folder = folder
        self.port = 0
        self.certify()

    def certify(self) -> None:
        """A new certificate of a new authority, in place of the last."""
        Authority(self.folder).issue("tls", hosts=[HOST, "localhost"])

    @property
    def ca(self) -> str:
        return (self.folder / "ca.crt").read_text()

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}{PATH}"

    def __enter__(self) -> Self:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def ask(self, body: bytes, token: str | None = None, method: str = "POST", path: str = PATH) -> Answer:
        """One request on a connection of its own."""
        context = ssl.create_default_context(cadata=self.ca)
        connection = http.client.HTTPSConnection(HOST, self.port, timeout=10, context=context)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {token}"} if token else {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode(), dict(answer.getheaders()))
        finally:
            connection.close()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        settings = ReceiverSettings(HOST, self.port, self.folder)
        read, review = self.api.read, self.api.review
        refused = self.refused.append
        async with Server(settings, self._pod, self._accept, refused, read, review) as server:
            self.port = server.port
            running = asyncio.create_task(server.run())
            self._ready.set()
            await self._stop.wait()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def _accept(self, namespace: str, job: str, progress: Progress) -> None:
        self.taken.append((namespace, job, progress))

    def _pod(self, uid: str) -> LivePod | None:
        return self.pods.get(uid)
