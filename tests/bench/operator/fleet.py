"""The rest of a cluster, in one event loop: people who create runs, and a kubelet for every Pod.

A Pod runs, and ends at once with the message that its stage would leave; those of runs that are held go on
running. Everything that a watch shows enters the ledger.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Final

from apiserver.operating import outcome_of
from bench.operator.ledger import Ledger, Object, step_of
from builders import document
from lorafinetune.contract.outcome import encode_result
from lorafinetune.shell.client import ApiError, Client
from lorafinetune.shell.paths import path

AT_ONCE: Final = 12
"""Requests of the kubelet, and of the people where nothing slows them."""
POLL: Final = 0.2
PAUSE: Final = 0.1
"""Seconds."""
NOT_FOUND: Final = 404


class Fleet:
    """Lives in one namespace of an API server, from `begin` on."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.ledger = Ledger()
        self.held: set[str] = set()
        self._client = client
        self._namespace = namespace
        self._todo: asyncio.Queue[Object] = asyncio.Queue()
        self._given: set[tuple[str, str]] = set()
        self._running: dict[str, Object] = {}

    def begin(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Starts watching; whoever begins it cancels it."""
        watches = {"lorafinetunes": self._resource, "jobs": self._job, "pods": self._pod}
        begun = [tasks.create_task(self._follow(plural, take)) for plural, take in watches.items()]
        return begun + [tasks.create_task(self._serve()) for _ in range(AT_ONCE)]

    async def arrive(self, names: Sequence[str], rate: float | None = None) -> None:
        """Creates runs."""
        await arrive(self._create, names, rate)

    def release(self, names: Collection[str]) -> None:
        """Lets runs go on that were held."""
        self.held -= set(names)
        for name in names:
            if pod := self._running.pop(name, None):
                self._todo.put_nowait(pod)

    async def until(self, holds: Callable[[], bool], within: float) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(within):
            while not holds():
                await asyncio.sleep(POLL)

    async def _create(self, name: str) -> None:
        made = document({"model": {"source": f"hf://owner/{name}"}})
        made["metadata"] = {"name": name}
        await self._client.create(path("lorafinetunes", self._namespace), made)
        self.ledger.created[name] = time.monotonic()

    async def _follow(self, plural: str, take: Callable[[Object], None]) -> None:
        version = ""
        while True:
            query = {"resourceVersion": version} if version else {}
            try:
                async for kind, told in self._client.watch(plural, self._namespace, query):
                    if kind == "ERROR":
                        raise ApiError(int(told["code"]), str(told["reason"]), str(told["message"]))
                    version = str(told["metadata"]["resourceVersion"])
                    if kind in ("ADDED", "MODIFIED"):
                        take(told)
            except ApiError:
                version = ""
                await asyncio.sleep(PAUSE)

    def _resource(self, given: Object) -> None:
        self.ledger.resource(given, time.monotonic())

    def _job(self, given: Object) -> None:
        self.ledger.job(given, time.monotonic())

    def _pod(self, given: Object) -> None:
        uid, phase = str(given["metadata"]["uid"]), str(given["status"].get("phase", "Pending"))
        if (uid, phase) in self._given:
            return
        self._given.add((uid, phase))
        self.ledger.pod(given)
        name, _ = step_of(given)
        if phase == "Running" and name in self.held:
            self._running[name] = given
        elif phase in ("Pending", "Running"):
            self._todo.put_nowait(given)

    async def _serve(self) -> None:
        while True:
            pod = await self._todo.get()
            ends = pod["status"].get("phase") == "Running"
            where = path("pods", self._namespace, pod["metadata"]["name"], "status")
            try:
                await self._client.patch(where, {"status": _ended(pod) if ends else {"phase": "Running"}})
            except ApiError as problem:
                if problem.code != NOT_FOUND:
                    self._todo.put_nowait(pod)


async def arrive(
    create: Callable[[str], Coroutine[Any, Any, None]], names: Sequence[str], rate: float | None = None
) -> None:
    """Creates so many a second, whether the last ones were answered or not; None: at full speed."""
    slots, began = asyncio.Semaphore(AT_ONCE if rate is None else len(names)), time.monotonic()
    async with asyncio.TaskGroup() as creations:
        for number, name in enumerate(names):
            await slots.acquire()
            if rate:
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            task = creations.create_task(create(name))
            task.add_done_callback(lambda _: slots.release())


def _ended(pod: Object) -> dict[str, Any]:
    """The status of a Pod whose container has left the result of its stage."""
    (container,) = pod["spec"]["containers"]
    terminated = {
        "exitCode": 0,
        "finishedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "message": encode_result(outcome_of(pod)),
    }
    ended = {
        "name": container["name"],
        "image": "",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": terminated},
    }
    return {"phase": "Succeeded", "containerStatuses": [ended]}
