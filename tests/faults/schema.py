"""Every property of the resource is changed, on a run that trains and on one that is finished; each must come
to where a fresh install of the final YAML comes to, unless the API server is right to refuse the change."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from apiserver.kube import serve_resource
from bench.results import Row
from builders import document
from cluster.apiserver import ApiServer
from cluster.controllers import Controllers
from faults.ledger import is_complete
from faults.legality import illegal, misjudged, rules_of
from faults.mutations import Mutation, every_mutation
from faults.outcome import Outcome
from faults.points import part
from faults.world import NAME, World, around, until
from lorafinetune.api.crd import crd
from lorafinetune.shell.client import ApiError
from lorafinetune.shell.invalid_resource import HINT
from lorafinetune.shell.paths import path

TOGETHER: Final = 16
"""Mutations at a time, with three lives each."""
ASKED: Final = "asked"
"""The namespace of the run that is asked about every change, and is never changed."""
WITHIN: Final = 300.0
HELD_ON: Final = 0.5
SETTLING: Final = 1.0
"""Seconds."""
STRICT: Final = "fieldValidation=Strict"
REFUSALS: Final = (400, 422)
PRIORITIES: Final = "/apis/scheduling.k8s.io/v1/priorityclasses"
TROUBLE: Final = re.compile(r" (ERROR|CRITICAL) |Traceback")
RACES: Final = frozenset({"spec.activeDeadlineSeconds the least"})
"""Changes that give a Pod one second, which it may or may not keep to."""


SCHEMA: Final = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
RULES: Final = rules_of(SCHEMA)
SAME: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "base model": lambda status: status.get("model"),
    "dataset": lambda status: status.get("dataset"),
    "artifacts": lambda status: status.get("artifacts"),
}
"""What a status says of an end, beside its situation and its Jobs, that follows from the spec alone."""


@dataclass
class Mutated:
    """What a change came to. names: of the mutations with this result. faults: what should not be."""

    names: list[str]
    spec: Mapping[str, Any]
    base: Mapping[str, Any]
    situation: str = ""
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Tried:
    """accepted: one of each result. refused: the mutations that the API server refused, and why. misjudged:
    those of them that it should not have refused, or not so."""

    accepted: list[Mutated]
    refused: dict[str, str]
    misjudged: list[str]
    errors: list[str]


def matrix(folder: Path, share: float, seed: int) -> Outcome:
    """A share of all changes, on an API server of their own."""
    with ApiServer(folder) as server:
        serve_resource(server)
        with Controllers(folder, server):
            return asyncio.run(_matrix(server, folder, share, seed))


async def _matrix(server: ApiServer, folder: Path, share: float, seed: int) -> Outcome:
    async with around(server, folder) as world:
        return judged(await tried(world, part(every_mutation(SCHEMA["properties"]["spec"]), share, seed)))


async def tried(world: World, given: Sequence[Mutation]) -> Tried:
    """Tries mutations, under one operator."""
    operator = world.operator()
    operator.start()
    world.kubelet.held.add(ASKED)
    done = await _asked(world, given)
    slots = asyncio.Semaphore(TOGETHER)

    async def one(number: int, mutated: Mutated) -> None:
        async with slots:
            try:
                await _Trial(world, f"m{number}", mutated).run()
            except (ApiError, AssertionError) as problem:
                mutated.faults.append(f"could not be tried: {problem}")

    await asyncio.gather(*(one(number, mutated) for number, mutated in enumerate(done.accepted)))
    await operator.kill()
    done.errors.extend(line for line in operator.log.read_text().splitlines() if TROUBLE.search(line))
    return done


async def _asked(world: World, given: Sequence[Mutation]) -> Tried:
    """What the API server would make of each, as a change of a run that trains: some are refused once the
    model is there."""
    await world.namespace(ASKED)
    await _prepare(world, ASKED, given[0].spec)
    await world.create(ASKED, given[0].spec)
    assert await until(lambda: _trains(world.ledger.of(ASKED).status), WITHIN)
    accepted: dict[str, Mutated] = {}
    done = Tried([], {}, [], [])
    for mutation in given:
        spec, refusal = await _answer(world, mutation)
        fault = misjudged(refusal, list(illegal(mutation.applied(), SCHEMA["properties"]["spec"])), RULES)
        if refusal is None:
            same = accepted.setdefault(json.dumps(spec, sort_keys=True), Mutated([], spec, mutation.spec))
            same.names.append(str(mutation))
            same.faults.extend(filter(None, [fault]))
        else:
            done.refused[str(mutation)] = refusal
            done.misjudged.extend([f"{mutation}: {fault}"] if fault else [])
    done.accepted.extend(accepted.values())
    return done


async def _answer(world: World, mutation: Mutation) -> tuple[Mapping[str, Any], str | None]:
    """The spec as the API server would store it, or why it refuses the change."""
    try:
        return (await _put(world, ASKED, mutation.applied(), "&dryRun=All"))["spec"], None
    except ApiError as problem:
        if problem.code not in REFUSALS:
            raise
        return {}, problem.message


async def _put(world: World, namespace: str, spec: Mapping[str, Any], more: str = "") -> Any:
    """Replaces the spec, whatever the operator writes meanwhile."""
    where = path("lorafinetunes", namespace, NAME)
    while True:
        there = await world.client.get(where)
        changed = document() | {"metadata": there["metadata"], "spec": spec}
        try:
            return await world.client.replace(f"{where}?{STRICT}{more}", changed)
        except ApiError as problem:
            if problem.code != 409:
                raise


async def _prepare(world: World, namespace: str, *specs: Mapping[str, Any]) -> None:
    """Makes what the specs name beside Secrets: accounts and classes."""
    for scheduling in (spec.get("scheduling") or {} for spec in specs):
        needed = [
            (f"/api/v1/namespaces/{namespace}/serviceaccounts", scheduling.get("serviceAccountName"), {}),
            (PRIORITIES, scheduling.get("priorityClassName"), {"value": 1}),
        ]
        for where, name, more in needed:
            if name:
                with suppress(ApiError):
                    await world.client.create(where, {"metadata": {"name": name}} | more)


@dataclass
class _Trial:
    """One change, in three namespaces."""

    world: World
    name: str
    mutated: Mutated
    generations: dict[str, int] = field(default_factory=dict)
    """What each way came to by the change, which is none where a default was said."""

    async def run(self) -> None:
        ways = {"running": self._running, "finished": self._finished, "fresh": self._fresh}
        for way in ways:
            await self.world.namespace(self._namespace(way))
            await _prepare(self.world, self._namespace(way), self.mutated.base, self.mutated.spec)
        await asyncio.gather(*(live() for live in ways.values()))
        is_race = bool(RACES & set(self.mutated.names))
        await until(lambda: self._is_settled() and (is_race or not list(self._faults())), WITHIN)
        await asyncio.sleep(SETTLING)
        self.mutated.situation = self._situation("fresh")
        self.mutated.faults.extend(self._faults())

    async def _running(self) -> None:
        namespace = self._namespace("running")
        self.world.kubelet.held.add(namespace)
        await self.world.create(namespace, self.mutated.base)
        await self._reaches("running", _trains)
        await self._change("running")
        await asyncio.sleep(HELD_ON)
        self.world.kubelet.release(namespace)

    async def _finished(self) -> None:
        await self.world.create(self._namespace("finished"), self.mutated.base)
        await self._reaches("finished", is_complete)
        await self._change("finished")

    async def _change(self, way: str) -> None:
        stored = await _put(self.world, self._namespace(way), self.mutated.spec)
        self.generations[way] = stored["metadata"]["generation"]

    async def _fresh(self) -> None:
        await self.world.create(self._namespace("fresh"), self.mutated.spec)

    async def _reaches(self, way: str, holds: Any) -> None:
        reached = await until(lambda: holds(self._status(way)), WITHIN)
        assert reached, f"{self.mutated.names[0]}: {way}: {self._status(way)}"

    def _is_settled(self) -> bool:
        return all(
            self._situation(way) not in ("", "Running", "Stopping")
            for way in ("running", "finished", "fresh")
        )

    def _faults(self) -> Iterator[str]:
        fresh = self._status("fresh")
        if fresh.get("failure", {}).get("hint") == HINT:
            yield f"the operator can't read it: {fresh['failure']['message']}"
        for way in ("running", "finished"):
            mine, wanted = _jobs(self._status(way)), _jobs(fresh)
            if differing := [stage for stage in wanted if mine.get(stage) != wanted[stage]]:
                yield f"{way}: other Jobs of {differing}"
            if not self._is_past(way):
                yield from (f"{way}: {fault}" for fault in self._other_end(way))

    def _other_end(self, way: str) -> Iterator[str]:
        """What differs where both went as far as they can."""
        here, there = self._situation(way), self._situation("fresh")
        if here != there:
            yield f"{here} in place of {there}"
        yield from differences(self._status(way), self._status("fresh"))

    def _is_past(self, way: str) -> bool:
        """Whether a fresh run stays where this one, which is complete, need not go any more."""
        there, stage = self._situation("fresh"), self._status("fresh").get("stage")
        if self._situation(way) != "Complete":
            return False
        stays = there == "Waiting" and (way == "finished" or stage != "Export")
        return stays or (way == "finished" and there == "Suspended")

    def _situation(self, way: str) -> str:
        status = self._status(way)
        if status.get("observedGeneration", 0) < self.generations.get(way, 1):
            return "Running"
        true = {c["type"] for c in status.get("conditions", []) if c["status"] == "True"}
        if ended := true & {"Complete", "Failed", "Suspended"}:
            return str(ended.pop())
        return "Waiting" if "failure" in status else str(status["conditions"][0]["reason"])

    def _status(self, way: str) -> Any:
        return self.world.ledger.of(self._namespace(way)).status

    def _namespace(self, way: str) -> str:
        return f"{self.name}-{way}"


def _trains(status: Mapping[str, Any]) -> bool:
    return status.get("stage") == "Train"


def _jobs(status: Mapping[str, Any]) -> dict[str, Any]:
    """Name, inputs and key by stage, of the stages that have had a Job."""
    return {
        stage["name"]: (stage["job"], stage.get("inputs"), stage.get("key"))
        for stage in status.get("stages", [])
        if "job" in stage
    }


def differences(mine: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """What an end has else than a fresh one, or beyond it.

    A fresh one that is stopped before its first Job says nothing of what the other made before.
    """
    here, there = (status.get("failure", {}).get("reason") for status in (mine, wanted))
    if here != there:
        yield f"failure: {here} in place of {there}"
    if not _jobs(wanted):
        return
    if more := sorted(_jobs(mine).keys() - _jobs(wanted).keys()):
        yield f"Jobs of {more} that a fresh run has not"
    for what, of in SAME.items():
        if of(mine) != of(wanted):
            yield f"{what}: {of(mine)} in place of {of(wanted)}"


def judged(done: Tried) -> Outcome:
    """One row for the changes that were refused, and one for those that were not."""
    bad = [one for one in done.accepted if one.faults and not RACES & set(one.names)]
    at: Row = {"at each": "property of the spec"}
    refused: Row = {
        "fault": "changed, and refused",
        "points": len(done.refused),
        "converged": len(done.refused) - len(done.misjudged),
    }
    accepted: Row = {
        "fault": "changed, and accepted",
        "points": len(done.accepted),
        "converged": len(done.accepted) - len(bad),
        "wrong on the way": len(done.errors),
    }
    complaints = [f"{', '.join(one.names)}: {'; '.join(one.faults)}" for one in bad]
    return Outcome([{**at, **refused}, {**at, **accepted}], [*done.misjudged, *complaints, *done.errors])
