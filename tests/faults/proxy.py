"""Stands between operators and the API server, counts what each life writes and is told, and does harm.

A life is a namespace; each has at most one point at which it is harmed, once.
"""

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp import web

from faults.between import between
from faults.points import WRITE, Point
from lorafinetune.shell.client import LONGEST_LINE
from lorafinetune.shell.paths import VERBS, Call, call

SLOW: Final = 1.5
RETRY_AFTER: Final = 1
LATE: Final = 1.0
"""Seconds that an event is held back at most, so that the next one overtakes it."""
PATIENCE: Final = 5.0
"""Seconds after which an operator under test gives up a request."""
POLL: Final = 0.1
PASSED_ON: Final = ("Authorization", "Accept", "Content-Type")
REFUSALS: Final = {"409": "Conflict", "429": "TooManyRequests", "500": "InternalError"}
GONE: Final = {
    "type": "ERROR",
    "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"},
}


@dataclass
class Life:
    """What passed of one namespace. kill: ends the operator that serves it, and starts another."""

    point: Point | None = None
    kill: Callable[[], Awaitable[None]] | None = None
    writes: list[str] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    harmed: bool = False
    welcome: float = 0.0
    hasty: list[str] = field(default_factory=list)

    def write(self, what: str) -> None:
        """Counts a write. welcome: from when on, by the event loop's clock; hasty: writes before it."""
        self.writes.append(what)
        if asyncio.get_running_loop().time() < self.welcome:
            self.hasty.append(f"{what} before the end of Retry-After")

    def is_due(self, what: str, number: int) -> bool:
        """Whether this is the point, which then has been."""
        if self.harmed or self.point is None or (self.point.what, self.point.number) != (what, number):
            return False
        self.harmed = True
        return True


@dataclass
class _Stream:
    """A watch as an operator gets it. held: events that wait for the next one of their life."""

    plural: str
    response: web.StreamResponse
    held: dict[str, bytes] = field(default_factory=dict)
    is_silent: bool = False
    is_over: bool = False


class Proxy:
    """Answers at `url` while `serving`. lives: by namespace; others pass unharmed. unanswered: plurals whose
    watches are kept waiting."""

    def __init__(self, upstream: str, context: ssl.SSLContext) -> None:
        self.lives: dict[str, Life] = {}
        self.unanswered: set[str] = set()
        self.url = ""
        self._upstream = upstream
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Proxy"]:
        async with between(self._answer, LONGEST_LINE, self._context) as (self.url, self._session):
            yield self

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = call(request.method, request.path, request.query.get("watch") == "true")
        try:
            if asked.verb == "watch":
                return await self._watch(request, asked)
            life = self.lives.get(asked.namespace or "") if asked.verb in VERBS.values() else None
            if life is None:
                return await self._forward(request)
            life.write(f"{asked.verb} {asked.plural}")
            if life.is_due(WRITE, len(life.writes)):
                return await self._harm(request, life)
            return await self._forward(request)
        except (aiohttp.ClientError, ConnectionError):
            return _cut(request)

    async def _forward(self, request: web.Request) -> web.Response:
        async with self._asked(request) as answer:
            body = await answer.read()
        return web.Response(
            status=answer.status, body=body, headers={"Content-Type": answer.headers["Content-Type"]}
        )

    @asynccontextmanager
    async def _asked(self, request: web.Request, **more: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {name: value for name, value in request.headers.items() if name in PASSED_ON}
        url, body = f"{self._upstream}{request.path_qs}", await request.read()
        async with self._session.request(
            request.method, url, data=body or None, headers=headers, **more
        ) as answer:
            yield answer

    async def _harm(self, request: web.Request, life: Life) -> web.StreamResponse:
        assert life.point is not None
        match life.point.fault:
            case "killed before":
                return await self._killed(request, life)
            case "killed after":
                await self._forward(request)
                return await self._killed(request, life)
            case "cut":
                return _cut(request)
            case "answer lost":
                await self._forward(request)
                await asyncio.sleep(PATIENCE + 1)
                return _cut(request)
            case "slow":
                await asyncio.sleep(SLOW)
                return await self._forward(request)
            case code:
                if code == "429":
                    life.welcome = asyncio.get_running_loop().time() + RETRY_AFTER
                return _refusal(code)

    async def _killed(self, request: web.Request, life: Life) -> web.StreamResponse:
        assert life.kill is not None
        await life.kill()
        return _cut(request)

    async def _watch(self, request: web.Request, asked: Call) -> web.StreamResponse:
        while asked.plural in self.unanswered and _is_there(request):
            await asyncio.sleep(POLL)
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._asked(request, timeout=timeout, read_bufsize=LONGEST_LINE) as answer:
            if answer.status != 200:
                return web.Response(status=answer.status, body=await answer.read())
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            stream = _Stream(asked.plural, response)
            try:
                await self._pass_on(stream, answer.content)
            finally:
                stream.held.clear()
            if stream.is_silent:
                await _say_nothing(request)
        return response

    async def _pass_on(self, stream: _Stream, lines: aiohttp.StreamReader) -> None:
        async for line in lines:
            for told in self._told(stream, line):
                await stream.response.write(told)
            if stream.is_over or stream.is_silent:
                return

    def _told(self, stream: _Stream, line: bytes) -> Iterator[bytes]:
        """What an operator hears in place of one event."""
        namespace = json.loads(line)["object"].get("metadata", {}).get("namespace", "")
        life = self.lives.get(namespace)
        if life is None:
            yield line
            return
        life.events[stream.plural] += 1
        if life.is_due(stream.plural, life.events[stream.plural]):
            yield from self._harmed(stream, namespace, line, life)
        else:
            yield line
            if late := stream.held.pop(namespace, None):
                yield late

    def _harmed(self, stream: _Stream, namespace: str, line: bytes, life: Life) -> Iterator[bytes]:
        assert life.point is not None
        match life.point.fault:
            case "dropped":
                return
            case "repeated":
                yield line
                yield line
                self._hold(stream, namespace, line)
            case "out of order":
                self._hold(stream, namespace, line)
            case "silent":
                stream.is_silent = True
            case _:
                yield json.dumps(GONE).encode() + b"\n"
                stream.is_over = True

    def _hold(self, stream: _Stream, namespace: str, line: bytes) -> None:
        stream.held[namespace] = line
        task = asyncio.create_task(_release(stream, namespace))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _release(stream: _Stream, namespace: str) -> None:
    await asyncio.sleep(LATE)
    if late := stream.held.pop(namespace, None):
        try:
            await stream.response.write(late)
        except ConnectionError:
            return


async def _say_nothing(request: web.Request) -> None:
    """Until the operator hangs up."""
    while _is_there(request):
        await asyncio.sleep(POLL)


def _is_there(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


def _cut(request: web.Request) -> web.Response:
    if request.transport:
        request.transport.abort()
    return web.Response()


def _refusal(code: str) -> web.Response:
    headers = {"Retry-After": str(RETRY_AFTER)} if code == "429" else {}
    body = {"kind": "Status", "code": int(code), "reason": REFUSALS[code], "message": "not now"}
    return web.json_response(body, status=int(code), headers=headers)
