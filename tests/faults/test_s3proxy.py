"""That the proxy before the S3 server does the harm that it says it does, and no other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from faults import s3proxy
from faults.s3proxy import FAULTS, Run, S3Proxy

HARM = "POST runs/b"
"""A PUT that is cut would be sent again by aiohttp itself."""

TABLE: dict[str, tuple[int, list[str]]] = {
    "killed before": (0, ["a", "c"]),
    "killed after": (0, ["a", "b", "c"]),
    "409": (409, ["a", "c"]),
    "429": (429, ["a", "c"]),
    "503": (503, ["a", "c"]),
    "500": (500, ["a", "c"]),
    "cut": (0, ["a", "c"]),
    "answer lost": (0, ["a", "b", "c"]),
    "slow": (200, ["a", "b", "c"]),
}
"""What the write of b is answered with, and what is written."""


@asynccontextmanager
async def serving(run: Run) -> AsyncIterator[tuple[list[str], str]]:
    """A server that takes what is written, behind a proxy; and the URL of the run's bucket."""
    taken: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.host == made.url.removeprefix("http://"), "a signature is over the Host"
        taken.append(request.path.rpartition("/")[2])
        return web.Response(headers={"ETag": '"1"'})

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port, *_ = runner.addresses[0]
    made = S3Proxy(f"http://{host}:{port}")
    made.runs["bucket"] = run
    async with made.serving():
        yield taken, f"{made.url}/bucket/runs"
    await runner.cleanup()


def test_every_fault_is_tried_here() -> None:
    assert tuple(TABLE) == FAULTS


@pytest.mark.parametrize("fault", TABLE)
def test_a_write_is(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3proxy, "PATIENCE", 0.2)
    monkeypatch.setattr(s3proxy, "SLOW", 0.1)
    killed: list[str] = []
    seen: list[str] = []

    async def kill() -> None:
        killed.append(fault)

    async def write() -> tuple[list[int], list[str]]:
        run = Run(HARM, fault, kill, seen.append)
        timeout = aiohttp.ClientTimeout(total=0.3)
        async with serving(run) as (taken, url), aiohttp.ClientSession(timeout=timeout) as session:
            codes = [await post(session, f"{url}/{name}") for name in "abc"]
            assert run.harmed
            return codes, taken

    status, written = TABLE[fault]
    assert asyncio.run(write()) == ([200, status, 200], written)
    assert killed == ([fault] if fault.startswith("killed") else [])
    assert seen == [f"runs/{name}" for name in written]


def test_a_write_has_the_same_name_in_every_bucket() -> None:
    async def written(record: str, upload: str) -> list[str]:
        run = Run()
        async with serving(run) as (_, url), aiohttp.ClientSession() as session:
            await post(session, f"{url}/exports/key/published/{record}.json")
            await post(session, f"{url}/published/model.safetensors?uploadId={upload}")
        return run.writes

    one = asyncio.run(written("0123456789abcdef", "first"))
    assert one == asyncio.run(written("fedcba9876543210", "second"))
    assert len(set(one)) == 2


async def post(session: aiohttp.ClientSession, url: str) -> int:
    try:
        async with session.post(url, data=b"x") as answer:
            return answer.status
    except (aiohttp.ClientError, TimeoutError):
        return 0
