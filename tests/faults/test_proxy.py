"""That the proxy does the harm that it says it does, and no other."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from faults import proxy
from faults.points import WRITE, Point
from faults.proxy import Life, Proxy
from lorafinetune.shell.client import ApiError, Client

EVENTS = 4
JOBS = "/apis/batch/v1/namespaces/life/jobs"


@dataclass
class Upstream:
    """An API server that takes every Job, and tells of four in a watch. taken: what it was asked to make."""

    taken: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            self.taken.append((await request.json())["name"])
            return web.json_response({"kind": "Job"}, status=201)
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(1, EVENTS + 1):
            metadata = {"namespace": "life", "name": str(number)}
            told = {"type": "ADDED", "object": {"metadata": metadata}}
            await response.write(json.dumps(told).encode() + b"\n")
            await asyncio.sleep(0.01)
        return response


@asynccontextmanager
async def between(point: Point) -> AsyncIterator[tuple[Upstream, Client, Life]]:
    """A client whose life is harmed at a point."""
    upstream, app, killed = Upstream(), web.Application(), []

    async def kill() -> None:
        killed.append(len(upstream.taken))

    app.router.add_route("*", "/{path:.*}", upstream.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port, *_ = runner.addresses[0]
    timeout = aiohttp.ClientTimeout(total=0.3)
    made = Proxy(f"http://{host}:{port}", ssl.create_default_context())
    life = made.lives["life"] = Life(point, kill)
    async with made.serving(), aiohttp.ClientSession(timeout=timeout) as session:
        yield upstream, Client(session, made.url), life
    await runner.cleanup()
    assert killed == {"killed before": [1], "killed after": [2]}.get(point.fault, [])


WRITES: dict[str, tuple[int, list[str]]] = {
    "killed before": (0, ["1", "3"]),
    "killed after": (0, ["1", "2", "3"]),
    "409": (409, ["1", "3"]),
    "500": (500, ["1", "3"]),
    "cut": (0, ["1", "3"]),
    "answer lost": (0, ["1", "2", "3"]),
    "slow": (201, ["1", "2", "3"]),
}
"""What the second of three writes is answered with, and which are done."""


@pytest.mark.parametrize("fault", WRITES)
def test_the_second_write_is(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "SLOW", 0.05)
    monkeypatch.setattr(proxy, "PATIENCE", 0.3)

    async def write() -> tuple[list[int], list[str]]:
        async with between(Point(WRITE, 2, fault)) as (upstream, client, life):
            codes = [await code(client, name) for name in ("1", "2", "3")]
            assert life.writes == ["create jobs"] * 3
            assert life.harmed
            return codes, upstream.taken

    answer, done = WRITES[fault]
    assert asyncio.run(write()) == ([201, answer, 201], done)


def test_one_that_comes_before_it_is_welcome_is_noticed() -> None:
    async def write() -> list[str]:
        async with between(Point(WRITE, 1, "429")) as (_, client, life):
            with pytest.raises(ApiError, match="429"):
                await client._ask_once("POST", JOBS, {"name": "1"}, None, None)
            await client.create(JOBS, {"name": "2"})
            return life.hasty

    assert asyncio.run(write()) == ["create jobs before the end of Retry-After"]


HEARD: dict[str, list[str]] = {
    "dropped": ["1", "3", "4"],
    "repeated": ["1", "2", "2", "3", "2", "4"],
    "out of order": ["1", "3", "2", "4"],
    "410 Gone": ["1", "ERROR"],
}


@pytest.mark.parametrize("fault", HEARD)
def test_the_second_event_is(fault: str) -> None:
    async def hear() -> list[str]:
        async with between(Point("jobs", 2, fault)) as (_, client, life):
            heard = [name(told) async for _, told in client.watch("jobs", "life", {})]
            assert life.harmed
            return heard

    assert asyncio.run(hear()) == HEARD[fault]


def test_a_silent_stream_stays_open_and_says_nothing() -> None:
    async def hear() -> list[str]:
        async with between(Point("jobs", 2, "silent")) as (_, client, _life):
            heard: list[str] = []

            async def listen() -> None:
                async for _, told in client.watch("jobs", "life", {}):
                    heard.append(name(told))

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(listen(), 0.5)
            return heard

    assert asyncio.run(hear()) == ["1"]


async def code(client: Client, job: str) -> int:
    try:
        await client.create(JOBS, {"name": job})
    except ApiError as problem:
        return problem.code
    return 201


def name(told: dict[str, Any]) -> str:
    return str(told.get("metadata", {}).get("name", "ERROR"))
