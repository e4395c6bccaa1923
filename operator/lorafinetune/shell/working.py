"""Takes resources from the queue, some at a time, and repeats the looks that failed."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from lorafinetune.shell.client import ApiError
from lorafinetune.shell.index import Key
from lorafinetune.shell.metrics import Metrics
from lorafinetune.shell.queue import Turn, WorkQueue
from lorafinetune.shell.writing import ABOUT, CONFLICT, NOT_FOUND

log = logging.getLogger(__name__)

AT_ONCE: Final = 16
RESYNC: Final = 600.0
"""Seconds after which a resource is looked at even if nothing happens, give or take a tenth."""

Look = Callable[[Key], Awaitable[float | None]]
"""Looks at a resource. Returns after how many seconds to look again; None: it is gone. Raises ApiError."""


async def work(queue: WorkQueue[Key], look: Look, metrics: Metrics) -> None:
    """Works for ever. No look ends it, whatever the look raises."""
    slots = asyncio.Semaphore(AT_ONCE)
    async with asyncio.TaskGroup() as looks:
        while True:
            await slots.acquire()
            turn = await queue.get()
            task = looks.create_task(_one(queue, turn, look, metrics))
            task.add_done_callback(lambda _: slots.release())


async def _one(queue: WorkQueue[Key], turn: Turn[Key], look: Look, metrics: Metrics) -> None:
    try:
        again = await look(turn.key)
    except ApiError as problem:
        expected = problem.code in (CONFLICT, NOT_FOUND)
        metrics.errors.labels("changed" if expected else "api").inc()
        level = logging.DEBUG if expected else logging.WARNING
        pause = queue.failed(turn.key)
        log.log(level, "tried again in %.1f s: %s", pause, problem, extra=_about(turn.key))
    except Exception:
        metrics.errors.labels("bug").inc()
        pause = queue.failed(turn.key)
        log.exception("tried again in %.1f s", pause, extra=_about(turn.key))
    else:
        resync = RESYNC * random.uniform(0.9, 1.1)  # noqa: S311 - spreads the load
        queue.done(turn.key, None if again is None else min(again, resync))
        metrics.latency.observe(asyncio.get_running_loop().time() - turn.due)


def _about(key: Key) -> dict[str, str]:
    return dict(zip(ABOUT, key, strict=True))
