"""Takes resources from the queue, some at a time, and repeats the reconciliations that failed."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from lorafinetune.shell.client import ApiError
from lorafinetune.shell.index import Key
from lorafinetune.shell.metrics import Metrics
from lorafinetune.shell.queue import QueueItem, WorkQueue
from lorafinetune.shell.writer import ABOUT, CONFLICT, NOT_FOUND

log = logging.getLogger(__name__)

AT_ONCE: Final = 16
RESYNC: Final = 600.0
"""Seconds after which a resource is reconciled even if nothing happens, give or take a tenth."""

Reconcile = Callable[[Key], Awaitable[float | None]]
"""Reconciles a resource. Returns after how many seconds to do so again; None: it is gone. Raises ApiError."""


async def work(queue: WorkQueue[Key], reconcile: Reconcile, metrics: Metrics) -> None:
    """Works for ever. No reconciliation ends it, whatever that raises."""
    slots = asyncio.Semaphore(AT_ONCE)
    async with asyncio.TaskGroup() as tasks:
        while True:
            await slots.acquire()
            item = await queue.get()
            task = tasks.create_task(_reconcile_one(queue, item, reconcile, metrics))
            task.add_done_callback(lambda _: slots.release())


async def _reconcile_one(
    queue: WorkQueue[Key], item: QueueItem[Key], reconcile: Reconcile, metrics: Metrics
) -> None:
    try:
        again = await reconcile(item.key)
    except ApiError as problem:
        expected = problem.code in (CONFLICT, NOT_FOUND)
        metrics.errors.labels("changed" if expected else "api").inc()
        level = logging.DEBUG if expected else logging.WARNING
        pause = queue.failed(item.key)
        log.log(level, "tried again in %.1f s: %s", pause, problem, extra=_about(item.key))
    except Exception:
        metrics.errors.labels("bug").inc()
        pause = queue.failed(item.key)
        log.exception("tried again in %.1f s", pause, extra=_about(item.key))
    else:
        resync = RESYNC * random.uniform(0.9, 1.1)  # noqa: S311 - spreads the load
        queue.done(item.key, None if again is None else min(again, resync))
        metrics.latency.observe(asyncio.get_running_loop().time() - item.due)


def _about(key: Key) -> dict[str, str]:
    return dict(zip(ABOUT, key, strict=True))
