"""What the client makes of an answer that is no success."""

import asyncio
from collections.abc import Callable

import aiohttp
import pytest
from aiohttp import web

from lorafinetune.shell import client
from lorafinetune.shell.client import DEFERRALS, ApiError, Client

Answer = Callable[[], web.Response]


def refusal(status: int, **headers: str) -> Answer:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: web.json_response({"reason": "Busy", "message": "not now"}, status=status, headers=told)


def good() -> web.Response:
    return web.json_response({"kind": "Job"})


LATER = refusal(429, Retry_After="0")

TABLE: dict[str, tuple[list[Answer], int, int]] = {
    "a good answer is given": ([good], 0, 1),
    "a request that is welcome later is sent again": ([LATER, good], 0, 2),
    "one that is never welcome is given up": ([LATER] * 9, 429, DEFERRALS + 1),
    "where the answer does not say when, nothing is sent again": ([refusal(429), good], 429, 1),
    "a date is no number of seconds": ([refusal(429, Retry_After="Fri, 01 Jan 2100"), good], 429, 1),
    "an error of the server is not repeated": ([refusal(500, Retry_After="0"), good], 500, 1),
}
"""The answers in their order, the code that is raised, and how many requests there were."""


@pytest.mark.parametrize("sentence", TABLE)
def test_of_answers(sentence: str) -> None:
    answers, code, requests = TABLE[sentence]
    assert asyncio.run(ask(answers)) == (code, requests)


def test_nobody_waits_for_longer_than_makes_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LONGEST_DEFERRAL", 0.01)
    assert asyncio.run(ask([refusal(429, Retry_After="86400"), good])) == (0, 2)


async def ask(answers: list[Answer]) -> tuple[int, int]:
    """The code that is raised, 0 for none, and how many requests there were."""
    asked = iter(answers)
    seen = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal seen
        seen += 1
        return next(asked)()

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port, *_ = runner.addresses[0]
    try:
        async with aiohttp.ClientSession() as session:
            await Client(session, f"http://{host}:{port}").create("/", {})
    except ApiError as problem:
        return problem.code, seen
    finally:
        await runner.cleanup()
    return 0, seen
