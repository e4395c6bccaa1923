"""Warning Events about our Jobs, their Pods and their Workloads in queues: some reasons appear nowhere else.

A cluster has many more Events than we care for, so they are watched by type, and only the newest few of
each Job are kept for some minutes.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from lorafinetune.core.pods import job_of
from lorafinetune.core.queueing import WORKLOAD, job_of_workload
from lorafinetune.shell.client import ApiError, Client
from lorafinetune.shell.index import Index, Key
from lorafinetune.shell.projections import Object, event

log = logging.getLogger(__name__)

KEPT_SECONDS: Final = 600.0
KEPT_PER_JOB: Final = 8
MOST_JOBS: Final = 5000
PAUSE: Final = 1.0
GONE: Final = 410
SELECTOR: Final = "type=Warning"


class Warnings:
    """The newest warnings by Job. on_change: is called with the Job that one is about."""

    def __init__(self, index: Index, clock: Callable[[], float], on_change: Callable[[Key], None]) -> None:
        self._index = index
        self._clock = clock
        self._on_change = on_change
        self._kept: dict[Key, dict[Key, tuple[float, dict[str, Any]]]] = {}

    def take(self, obj: Object) -> None:
        """Keeps a warning if it is about a Job of ours or what is there for it; one of the same object and
        reason goes."""
        kept = event(obj)
        job = kept and self._job(obj["metadata"]["namespace"], kept["involvedObject"])
        if not kept or not job:
            return
        about = self._kept.pop(job, {})
        which = (str(kept["involvedObject"].get("uid", "")), str(kept.get("reason", "")))
        known = about.pop(which, None)
        about[which] = (self._clock(), kept)
        self._kept[job] = dict(list(about.items())[-KEPT_PER_JOB:])
        if len(self._kept) > MOST_JOBS:
            del self._kept[next(iter(self._kept))]
        if known is None or known[1].get("message") != kept.get("message"):
            self._on_change(job)

    def of(self, namespace: str, job: str) -> list[dict[str, Any]]:
        """The warnings about a Job and its Pods that are not old."""
        oldest = self._clock() - KEPT_SECONDS
        kept = {w: told for w, told in self._kept.get((namespace, job), {}).items() if told[0] > oldest}
        if not kept:
            self._kept.pop((namespace, job), None)
        return [told for _, told in kept.values()]

    def _job(self, namespace: str, about: Object) -> Key | None:
        name = str(about.get("name", ""))
        if about["kind"] == "Pod":
            pod = self._index.pods.get(namespace, name)
            name = job_of(pod) if pod else name.rpartition("-")[0]
        if about["kind"] == WORKLOAD:
            name = job_of_workload(name)
        return (namespace, name) if self._index.jobs.get(namespace, name) else None


async def listen(client: Client, namespace: str | None, warnings: Warnings) -> None:
    """Watches for ever. After a break, it goes on from the last version, or begins anew if that is gone."""
    version = ""
    while True:
        query = {"fieldSelector": SELECTOR} | ({"resourceVersion": version} if version else {})
        try:
            async for kind, obj in client.watch("events", namespace, query):
                if kind == "ERROR":
                    raise ApiError(int(obj.get("code", 0)), str(obj.get("reason")), str(obj.get("message")))
                version = obj["metadata"]["resourceVersion"]
                if kind in ("ADDED", "MODIFIED"):
                    warnings.take(obj)
        except ApiError as problem:
            version = "" if problem.code == GONE else version
            log.debug("the watch of Events broke: %s", problem)
            await asyncio.sleep(PAUSE)
