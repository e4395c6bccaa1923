"""Short lives of resources, some beside each other, and what a person does to each, by a seed."""

import asyncio
import json
import random
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Final

from builders import document
from faults.kubelet import follow
from lorafinetune.core.reminders import REMIND_EVERY
from lorafinetune.shell.client import ApiError, Client
from lorafinetune.shell.paths import path

Object = dict[str, Any]

NAMESPACES: Final = 5
LONGEST_PAUSE: Final = 1.5
"""Seconds: a life that is left alone takes about as long."""
POLL: Final = 0.05
WITHIN: Final = REMIND_EVERY.total_seconds() + 120.0
"""Kubernetes' own controller may forget a Job for so long, whose name another had a moment before."""
NOT_FOUND: Final = 404
ROOT_CERTIFICATE: Final = "kube-root-ca.crt"
"""Of every namespace."""
KINDS: Final = ("lorafinetunes", "jobs", "pods", "services", "configmaps")
"""Of what may be left."""
ONCE_MORE: Final = {"training": {"epochs": "4"}}


class Lives:
    """Lives in the namespaces of one API server. count: of all that were lived, by their kind."""

    def __init__(self, client: Client, seed: int) -> None:
        self.count = dict.fromkeys(self._kinds(), 0)
        self._client = client
        self._random = random.Random(seed)
        self._there: dict[tuple[str, str], Object] = {}

    @staticmethod
    def namespaces() -> Iterator[str]:
        return (f"team-{number}" for number in range(NAMESPACES))

    async def watch(self) -> None:
        """For ever."""
        await follow(self._client, "lorafinetunes", {}, self._take)

    async def one(self, number: int) -> None:
        """Raises TimeoutError where it does not come to its end."""
        kinds = self._kinds()
        kind = self._random.choice(list(kinds))
        where = (f"team-{number % NAMESPACES}", f"run-{number}")
        await self._create(where)
        await kinds[kind](where)
        await self._delete(where)
        async with asyncio.timeout(WITHIN):
            while where in self._there:
                await asyncio.sleep(POLL)
        self.count[kind] += 1

    def _kinds(self) -> Mapping[str, Callable[[tuple[str, str]], Coroutine[Any, Any, None]]]:
        return {
            "left alone": self._complete,
            "edited": self._edited,
            "suspended and resumed": self._suspended,
            "deleted at any moment": self._pause,
            "deleted and created again at once": self._again,
        }

    async def _edited(self, where: tuple[str, str]) -> None:
        await self._pause(where)
        await self._change(where, ONCE_MORE)
        await self._complete(where)

    async def _suspended(self, where: tuple[str, str]) -> None:
        await self._pause(where)
        await self._change(where, {"suspend": True})
        await self._until(where, lambda there: _is(there, "Suspended") or _is(there, "Complete"))
        await self._change(where, {"suspend": False})
        await self._complete(where)

    async def _again(self, where: tuple[str, str]) -> None:
        await self._pause(where)
        await self._delete(where)
        await self._create(where)
        await self._complete(where)

    async def _complete(self, where: tuple[str, str]) -> None:
        await self._until(where, lambda there: _is(there, "Complete"))

    async def _pause(self, _: tuple[str, str]) -> None:
        await asyncio.sleep(self._random.uniform(0, LONGEST_PAUSE))

    async def _create(self, where: tuple[str, str]) -> None:
        made = document({"model": {"source": f"hf://owner/{where[1]}"}} | self._also(where[1]))
        made["metadata"] = {"name": where[1]}
        async with asyncio.timeout(WITHIN):
            while not await self._taken(where, made):
                await asyncio.sleep(POLL)

    def _also(self, name: str) -> Object:
        """Of a spec: nothing, what needs a Service, or what makes a ConfigMap."""
        nodes, config_map = {"train": {"nodes": 2}}, {"configMap": {"name": f"of-{name}"}}
        return self._random.choice([{}, {"resources": nodes}, {"export": config_map}])

    async def _taken(self, where: tuple[str, str], made: Object) -> bool:
        """Whether the name was free."""
        try:
            self._there[where] = await self._client.create(path("lorafinetunes", where[0]), made)
        except ApiError as problem:
            if problem.reason != "AlreadyExists":
                raise
            return False
        return True

    async def _change(self, where: tuple[str, str], spec: Mapping[str, Any]) -> None:
        self._there[where] = await self._client.patch(path("lorafinetunes", *where), {"spec": dict(spec)})

    async def _delete(self, where: tuple[str, str]) -> None:
        await self._client.delete(path("lorafinetunes", *where), self._there[where]["metadata"]["uid"])

    async def _until(self, where: tuple[str, str], holds: Callable[[Object], bool]) -> None:
        try:
            async with asyncio.timeout(WITHIN):
                while not holds(self._there[where]):
                    await asyncio.sleep(POLL)
        except TimeoutError as problem:
            raise TimeoutError(
                f"after {WITHIN:g} s it still is: {json.dumps(self._there[where])}"
            ) from problem

    def _take(self, kind: str, given: Object) -> None:
        where = (given["metadata"]["namespace"], given["metadata"]["name"])
        same = self._there.get(where, given)["metadata"]["uid"] == given["metadata"]["uid"]
        if same and kind == "DELETED":
            self._there.pop(where, None)
        elif same:
            self._there[where] = given


def _is(given: Object, kind: str) -> bool:
    """Whether a condition is true, and of this generation."""
    conditions = given.get("status", {}).get("conditions", [])
    generation = given["metadata"]["generation"]
    return any(
        c["type"] == kind and c["status"] == "True" and c["observedGeneration"] == generation
        for c in conditions
    )


async def left(client: Client) -> dict[str, int]:
    """What is still there, of all namespaces."""
    found = dict.fromkeys(KINDS, 0)
    for plural in found:
        for namespace in Lives.namespaces():
            items = await client.items(path(plural, namespace))
            found[plural] += sum(item["metadata"]["name"] != ROOT_CERTIFICATE for item in items)
    return found


async def make_namespaces(client: Client) -> None:
    """Those in which Pods can be made."""
    for name in Lives.namespaces():
        await client.create("/api/v1/namespaces", {"metadata": {"name": name}})
        async with asyncio.timeout(WITHIN):
            while not await _has_account(client, name):
                await asyncio.sleep(POLL)


async def _has_account(client: Client, namespace: str) -> bool:
    try:
        return bool(await client.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default"))
    except ApiError as problem:
        if problem.code != NOT_FOUND:
            raise
        return False
