"""Stands between stages and the S3 server, counts what each run writes, and does harm at one write.

A run is a bucket. Parts and files are written in parallel, so a write is known by what it is, not by its
number: the method, the key, and the step of an upload in parts.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final
from xml.sax.saxutils import escape

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from faults.between import between

PATIENCE: Final = 2.0
"""Seconds after which a stage under test gives up a request."""
LARGEST: Final = 64 * 2**20
WRITES: Final = ("PUT", "POST", "DELETE")
ERRORS: Final = {
    "409": "OperationAborted",
    "429": "TooManyRequests",
    "503": "SlowDown",
    "500": "InternalError",
}
SLOW: Final = 1.0
RETRY_AFTER: Final = 1
HOP: Final = ("Connection", "Keep-Alive", "Transfer-Encoding", "Content-Length")
FAULTS: Final = ("killed before", "killed after", *ERRORS, "cut", "answer lost", "slow")
UPLOAD: Final = re.compile(r"uploadId=[^&]+")
RECORD: Final = re.compile(r"(?<=/published/)[0-9a-f]+(?=\.json$)")
"""Of where an export was published: named by the URI, of which the bucket is a part."""


@dataclass
class Run:
    """What passed of one bucket. fault: what happens at `write`, once."""

    write: str = ""
    fault: str = ""
    kill: Callable[[], Awaitable[None]] | None = None
    written: Callable[[str], None] = lambda _: None
    writes: list[str] = field(default_factory=list)
    harmed: bool = False

    def is_due(self, write: str) -> bool:
        if self.harmed or write != self.write:
            return False
        self.harmed = True
        return True


class S3Proxy:
    """Answers at `url` while `serving`. runs: by bucket; others pass unharmed."""

    def __init__(self, upstream: str) -> None:
        self.runs: dict[str, Run] = {}
        self.url = ""
        self._upstream = upstream

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["S3Proxy"]:
        async with between(self._answer, LARGEST, decompress=False) as (self.url, self._session):
            yield self

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        bucket, _, key = request.path.strip("/").partition("/")
        run = self.runs.get(bucket) if request.method in WRITES else None
        try:
            body = await request.read()
            if run is None:
                return await self._forward(request, body)
            write = _named(request.method, key, request.query_string)
            run.writes.append(write)
            if run.is_due(write):
                return await self._harm(request, body, run)
            return await self._written(request, body, run)
        except (aiohttp.ClientError, ConnectionError):
            return _cut(request)

    async def _written(self, request: web.Request, body: bytes, run: Run) -> web.Response:
        answer = await self._forward(request, body)
        if answer.status < 300:
            run.written(request.path.strip("/").partition("/")[2])
        return answer

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        """Passes the request on as it is: its signature is over its own Host."""
        url = URL(self._upstream + request.raw_path, encoded=True)
        headers = _without_hops(request.headers)
        sent = BytesIO(body) if body else None  # bytes, where there are many, are warned of
        async with self._session.request(
            request.method, url, data=sent, headers=headers, skip_auto_headers=("Content-Type",)
        ) as answer:
            content = await answer.read()
            told = _without_hops(answer.headers)
            if request.method == "HEAD":
                told["Content-Length"] = answer.headers.get("Content-Length", "0")
            return web.Response(status=answer.status, body=content, headers=told)

    async def _harm(self, request: web.Request, body: bytes, run: Run) -> web.StreamResponse:
        match run.fault:
            case "killed before" | "killed after":
                if run.fault == "killed after":
                    await self._written(request, body, run)
                assert run.kill is not None
                await run.kill()
                return _cut(request)
            case "cut":
                return _cut(request)
            case "answer lost":
                await self._written(request, body, run)
                await asyncio.sleep(PATIENCE + 1)
                return _cut(request)
            case "slow":
                await asyncio.sleep(SLOW)
                return await self._written(request, body, run)
            case code:
                return _refusal(code)


def _named(method: str, key: str, query: str) -> str:
    """What a write is, by the same name in every run."""
    return f"{method} {RECORD.sub('record', key)} {UPLOAD.sub('uploadId', query)}".strip()


def _without_hops(headers: "CIMultiDict[str] | object") -> "CIMultiDict[str]":
    kept: CIMultiDict[str] = CIMultiDict(headers)  # type: ignore[arg-type]  # a mapping of either kind
    for name in HOP:
        kept.pop(name, None)
    return kept


def _cut(request: web.Request) -> web.Response:
    if request.transport:
        request.transport.abort()
    return web.Response()


def _refusal(code: str) -> web.Response:
    text = f"<Error><Code>{escape(ERRORS[code])}</Code><Message>not now</Message></Error>"
    headers = {"Retry-After": str(RETRY_AFTER)} if code == "429" else {}
    return web.Response(status=int(code), text=text, content_type="application/xml", headers=headers)
