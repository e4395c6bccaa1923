"""The rest of the cluster for all namespaces: a kubelet, a queue that admits every Job, and one disturbance.

A Pod runs and ends at once with the message that its stage would leave. In `disturbed` namespaces, the
first Pod of `prepare` is evicted instead, so that a life has a deletion and a second attempt in it.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from apiserver.operating import controller_uid, outcome_of
from lorafinetune.api.artifacts import Artifact
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import (
    ExportResult,
    PrepareResult,
    Result,
    StageError,
    TrainResult,
    encode_error,
    encode_result,
)
from lorafinetune.core.observed import OURS, STAGE_LABEL
from lorafinetune.core.pods import JOB_LABEL
from lorafinetune.shell.client import ApiError, Client
from lorafinetune.shell.paths import path

Object = dict[str, Any]

AT_ONCE: Final = 8
PAUSE: Final = 0.1
CHANGED_OR_GONE: Final = (404, 409)
"""Of which the watch tells. After any other answer it is asked again."""
OURS_QUERY: Final = {"labelSelector": "=".join(OURS)}


class Kubelet:
    """Serves the Pods of all namespaces while it runs. held: namespaces whose trainings go on running."""

    def __init__(self, client: Client) -> None:
        self.disturbed: set[str] = set()
        self.held: set[str] = set()
        self._client = client
        self._todo: asyncio.Queue[Object] = asyncio.Queue()
        self._first: dict[tuple[str, str], str] = {}
        self._running: dict[str, Object] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow(self._client, "pods", OURS_QUERY, self._pod))
            tasks.create_task(follow(self._client, "jobs", OURS_QUERY, self._job))
            for _ in range(AT_ONCE):
                tasks.create_task(self._serve())

    def holds(self, namespace: str) -> int:
        """How many Pods of a namespace go on running."""
        return sum(pod["metadata"]["namespace"] == namespace for pod in self._running.values())

    def release(self, namespace: str) -> None:
        """Lets the trainings of a namespace end."""
        self.held.discard(namespace)
        for uid, pod in list(self._running.items()):
            if pod["metadata"]["namespace"] == namespace:
                self._todo.put_nowait(self._running.pop(uid))

    def _pod(self, kind: str, pod: Object) -> None:
        if kind == "DELETED":
            self._running.pop(pod["metadata"]["uid"], None)
        elif pod["status"].get("phase") in ("Pending", "Running"):
            self._todo.put_nowait(pod)

    def _job(self, kind: str, job: Object) -> None:
        if kind != "DELETED" and job["spec"].get("suspend"):
            self._todo.put_nowait(job)

    async def _serve(self) -> None:
        while True:
            given = await self._todo.get()
            try:
                await (self._admit(given) if "template" in given["spec"] else self._move(given))
            except ApiError as problem:
                if problem.code not in CHANGED_OR_GONE:
                    await asyncio.sleep(PAUSE)
                    self._todo.put_nowait(given)

    async def _admit(self, job: Object) -> None:
        where = path("jobs", job["metadata"]["namespace"], job["metadata"]["name"])
        await self._client.patch(where, {"spec": {"suspend": False}})

    async def _move(self, pod: Object) -> None:
        metadata = pod["metadata"]
        is_running = pod["status"].get("phase") == "Running"
        if is_running and self._is_held(pod):
            self._running[metadata["uid"]] = pod
            return
        status = self._ended(pod) if is_running else {"phase": "Running"}
        where = path("pods", metadata["namespace"], metadata["name"], "status")
        version = {"resourceVersion": metadata["resourceVersion"]}
        await self._client.patch(where, {"metadata": version, "status": status})

    def _ended(self, pod: Object) -> Object:
        """The status of a Pod whose container has left a message."""
        if evicted := self._is_evicted(pod):
            message = encode_error(StageError(Reason.PREEMPTED, "the node was wanted"))
        else:
            message = encode_result(_by_key(outcome_of(pod)))
        (container,) = pod["spec"]["containers"]
        finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        terminated = {"exitCode": int(evicted), "finishedAt": finished, "message": message}
        about = {"image": "", "imageID": "", "ready": False, "restartCount": 0}
        ended = about | {"name": container["name"], "state": {"terminated": terminated}}
        return {"phase": "Failed" if evicted else "Succeeded", "containerStatuses": [ended]}

    def _is_held(self, pod: Object) -> bool:
        metadata = pod["metadata"]
        return metadata["namespace"] in self.held and metadata["labels"][STAGE_LABEL] == "train"

    def _is_evicted(self, pod: Object) -> bool:
        metadata = pod["metadata"]
        if metadata["namespace"] not in self.disturbed or metadata["labels"][STAGE_LABEL] != "prepare":
            return False
        job = (metadata["namespace"], metadata["labels"][JOB_LABEL])
        return self._first.setdefault(job, controller_uid(pod)) == controller_uid(pod)


def _by_key(made: Result) -> Result:
    """Of another key nothing is the same."""
    match made:
        case PrepareResult():
            dataset = made.dataset.model_copy(update={"digest": made.key})
            return made.model_copy(update={"dataset": dataset})
        case TrainResult():
            return made.model_copy(update={"adapter": made.adapter.model_copy(update={"digest": made.key})})
        case ExportResult(merged=Artifact() as merged):
            return made.model_copy(update={"merged": merged.model_copy(update={"digest": made.key})})
        case _:
            return made


async def follow(
    client: Client, plural: str, query: dict[str, str], take: Callable[[str, Object], None]
) -> None:
    """Watches a kind in all namespaces for ever. take: is told the type of each event, and the object."""
    version = ""
    while True:
        try:
            since = {"resourceVersion": version} if version else {}
            async for kind, told in client.watch(plural, None, query | since):
                if kind == "ERROR":
                    raise ApiError(int(told["code"]), str(told["reason"]), str(told["message"]))
                version = str(told["metadata"]["resourceVersion"])
                if kind != "BOOKMARK":
                    take(kind, told)
        except ApiError as problem:
            version = "" if problem.code == 410 else version
            await asyncio.sleep(PAUSE)
