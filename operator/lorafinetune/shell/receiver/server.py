"""The receiver as a server: bounded in connections, time and size before anything is believed.

Connections are accepted one by one, because a renewed certificate has to be used from the next one on,
and because a stranger who opens thousands must not use up the operator's own.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from aiohttp import web

from lorafinetune.contract.outcome import Progress
from lorafinetune.shell.receiver.bodies import MAX_BODY_BYTES, Update, decode
from lorafinetune.shell.receiver.certificate import Certificate
from lorafinetune.shell.receiver.keys import Keys, Read
from lorafinetune.shell.receiver.rate import RateLimiter
from lorafinetune.shell.receiver.tokens import (
    ForbiddenError,
    LivePod,
    Review,
    Tokens,
    UnauthenticatedError,
    UnavailableError,
)

log = logging.getLogger(__name__)
quiet = log.getChild("http")
"""Of the HTTP library, which would write a traceback for whatever a stranger sends."""
quiet.setLevel(logging.CRITICAL)

Accept = Callable[[str, str, Progress], None]
"""Takes the progress of a Job: its namespace, its name, and the progress."""
Refused = Callable[[str], None]
"""Is told why a post was refused, in a word or two."""

CONNECTIONS: Final = 256
CONNECTIONS_OF_ONE: Final = 16
"""From one address: so no pod alone keeps the others out. A network may have the pods of a node share one."""
BACKLOG: Final = 128
HANDSHAKE_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 5.0
REQUEST_SECONDS: Final = 10.0
CONNECTION_SECONDS: Final = 20.0
LINGER_SECONDS: Final = 1.0
GOODBYE_SECONDS: Final = 1.0
CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
REFUSALS: Final = {
    400: "malformed",
    401: "unauthenticated",
    403: "forbidden",
    408: "too slow",
    413: "too large",
    429: "too often",
    500: "our fault",
    503: "not verifiable",
}
"""Why a post is refused, by the status of the answer."""
TOO_MANY: Final = "too many connections"


@dataclass(frozen=True)
class ReceiverSettings:
    """Where to listen (port 0: any), the folder with `tls.crt` and `tls.key`, and the path that is served."""

    host: str
    port: int
    tls: Path
    path: str = "/progress"


async def serve(
    settings: ReceiverSettings,
    pods: Callable[[str], LivePod | None],
    accept: Accept,
    refused: Refused,
    read: Read,
    review: Review,
) -> None:
    """Serves until it is cancelled.

    pods: the pod with that uid, if it is of one of our Jobs. accept: gets every progress that is
    believed. refused: hears of every post that is not. read: GETs a path of the API server. review:
    POSTs a TokenReview. Raises OSError where it can't listen, or has no certificate.
    """
    async with Server(settings, pods, accept, refused, read, review) as server:
        await server.run()


class Server:
    """Listens between enter and exit, and answers while `run` runs. port: the one it listens on."""

    def __init__(
        self,
        settings: ReceiverSettings,
        pods: Callable[[str], LivePod | None],
        accept: Accept,
        refused: Refused,
        read: Read,
        review: Review,
    ) -> None:
        self._settings = settings
        self._certificate = Certificate(settings.tls)
        self._refused = refused
        self._handler = _Handler(Tokens(Keys(read), review, pods), accept, refused)
        self._attended: dict[asyncio.Task[None], tuple[socket.socket, str, asyncio.Future[None]]] = {}
        """The connections, the address that each comes from, and what tells that it is over."""

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.router.add_post(self._settings.path, self._handler.answer)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=quiet,
            auto_decompress=False,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            shutdown_timeout=GOODBYE_SECONDS,
        )
        await self._runner.setup()
        self._listener = _listen(self._settings.host, self._settings.port)
        self.port: int = self._listener.getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        await self._runner.cleanup()
        for connection, _peer, over in self._attended.values():
            _tell(over)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        await asyncio.gather(*self._attended, return_exceptions=True)

    async def run(self) -> None:
        """Accepts connections until it is cancelled; those beyond the bounds are closed at once."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, (peer, *_) = await loop.sock_accept(self._listener)
            except OSError as problem:
                log.warning("can't accept a connection: %s", problem)
                await asyncio.sleep(1)
                continue
            if self._is_full_for(peer):
                self._refused(TOO_MANY)
                connection.close()
                continue
            over: asyncio.Future[None] = loop.create_future()
            task = asyncio.create_task(self._attend(connection, over))
            self._attended[task] = (connection, peer, over)
            task.add_done_callback(self._attended.pop)

    def _is_full_for(self, peer: str) -> bool:
        from_it = sum(address == peer for _, address, _ in self._attended.values())
        return from_it >= CONNECTIONS_OF_ONE or len(self._attended) >= CONNECTIONS

    async def _attend(self, connection: socket.socket, over: asyncio.Future[None]) -> None:
        """One connection, which lives for some seconds and not longer, whatever becomes of it."""
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: _Attended(self._protocol(), over),
                connection,
                ssl=self._certificate.context(),
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=GOODBYE_SECONDS,
            )
        except OSError as problem:
            log.debug("a client could not connect: %s", problem)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECTION_SECONDS):
                await over
        if not transport.is_closing():  # One that is, ends by itself; Python 3.11.2 fails when asked again.
            transport.abort()

    def _protocol(self) -> asyncio.Protocol:
        if self._runner.server is None:
            raise ConnectionAbortedError("the receiver is closing")
        return self._runner.server()


class _Attended(asyncio.Protocol):
    """HTTP, and word of the connection's end: one that is paused when its client leaves has none."""

    def __init__(self, protocol: asyncio.Protocol, over: asyncio.Future[None]) -> None:
        self._protocol = protocol
        self._over = over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._protocol.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
        _tell(self._over)


def _tell(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    listener.setblocking(False)
    return listener


class _Handler:
    """Answers one post: who is it, is it their turn, what do they say."""

    def __init__(self, tokens: Tokens, accept: Accept, refused: Refused) -> None:
        self._tokens = tokens
        self._pace = RateLimiter()
        self._accept = accept
        self._refused = refused

    async def answer(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                response = await self._answer(request)
        except TimeoutError:
            response = web.Response(status=408, text="the request took too long")
        except (ConnectionError, web.RequestPayloadError):
            response = web.Response(status=400, text="the body did not come through")
        except Exception:
            log.exception("a post could not be answered")
            response = web.Response(status=500)
        if response.status in REFUSALS:
            self._refused(REFUSALS[response.status])
        response.force_close()
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            pod = await self._tokens.pod(request.headers.get("Authorization", ""))
        except UnauthenticatedError as problem:
            return web.Response(status=401, text=str(problem), headers=CHALLENGE)
        except ForbiddenError as problem:
            return web.Response(status=403, text=str(problem))
        except UnavailableError as problem:
            return web.Response(status=503, text=str(problem), headers={"Retry-After": "5"})
        if not self._pace.admits(pod.uid):
            return web.Response(status=429, text="one post a second", headers={"Retry-After": "1"})
        return self._take(pod, await _body(request))

    def _take(self, pod: LivePod, body: bytes | None) -> web.Response:
        if body is None:
            return web.Response(status=413, text=f"more than {MAX_BODY_BYTES} bytes")
        try:
            found = decode(body)
        except ValueError as problem:
            return web.Response(status=400, text=str(problem))
        progress = found.progress() if isinstance(found, Update) else found
        if progress:
            self._accept(pod.namespace, pod.job_name, progress)
        if isinstance(found, Update):
            return web.Response(text=found.answer(), content_type="application/json")
        return web.Response(status=204)


async def _body(request: web.Request) -> bytes | None:
    """None: it is too large."""
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        return None
