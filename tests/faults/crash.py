"""The crash matrix: every fault at every write and every event of a life; each life must end as if nothing
had happened."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from apiserver.kube import serve_resource
from bench.results import Row
from builders import document
from cluster.apiserver import ApiServer
from cluster.controllers import Controllers
from faults.ledger import Seen, is_complete, is_said, wrong
from faults.outcome import NOT_REACHED, Outcome
from faults.points import KILLS, OWN_PROCESS, WRITE, Point, part, points
from faults.proxy import Life
from faults.world import World, around, until
from lorafinetune.shell.paths import path

HANDED: Final = "outputs"
NODES: Final = 2
SPEC: Final = document(
    {
        "model": {"source": "hf://owner/model"},
        "resources": {"train": {"nodes": NODES}},
        "export": {"configMap": {"name": HANDED}},
        "ttlSecondsAfterFinished": 3600,
    }
)["spec"]
WITHIN: Final = 300.0
SETTLING: Final = 1.5
"""Seconds."""
TOGETHER: Final = 48
"""Lives at a time under one operator."""
ALONE: Final = 16
"""Lives at a time with an operator each."""
AGAIN: Final = 3
"""How often a point is lived again at most, where no life came to it."""


@dataclass(frozen=True)
class Calm:
    """A life that nothing happens to: how it ends, and how much there is to harm."""

    end: Any
    writes: Sequence[str]
    events: dict[str, int]


@dataclass
class Tried:
    """One point. reached: whether there was such a write or event."""

    point: Point
    reached: bool
    end: Any
    wrong: list[str] = field(default_factory=list)


def matrix(folder: Path, share: float, seed: int) -> Outcome:
    """A share of all points, on an API server of their own."""
    with ApiServer(folder) as server:
        serve_resource(server)
        with Controllers(folder, server):
            return asyncio.run(_matrix(server, folder, share, seed))


async def _matrix(server: ApiServer, folder: Path, share: float, seed: int) -> Outcome:
    async with around(server, folder) as world:
        baseline = await calm(world)
        chosen = part(points(len(baseline.writes), baseline.events), share, seed)
        ways = [partial(live, world) for live in (together, alone)]
        return judged([one for live in ways for one in await until_reached(live, chosen)], baseline)


async def until_reached(
    live: Callable[[Iterable[Point]], Awaitable[list[Tried]]], given: Iterable[Point]
) -> list[Tried]:
    """The last life of each point. How many writes and events a life has differs by a few."""
    tried = {one.point: one for one in await live(given)}
    for _ in range(AGAIN):
        if missed := [point for point, one in tried.items() if not one.reached]:
            tried |= {one.point: one for one in await live(missed)}
    return list(tried.values())


async def calm(world: World) -> Calm:
    """Lives once without harm."""
    operator = world.operator("calm")
    life = await _live(world, "calm", Life(), operator.start)
    await asyncio.sleep(SETTLING)
    await operator.kill()
    seen = world.ledger.of("calm")
    assert is_complete(seen.status), "a life without faults ends well"
    assert not (faults := wrong(seen)), faults
    return Calm(seen.end(), tuple(life.writes), dict(life.events))


async def together(world: World, given: Iterable[Point]) -> list[Tried]:
    """Points that share one operator."""
    operator, slots = world.operator(), asyncio.Semaphore(TOGETHER)
    operator.start()

    async def one(point: Point) -> tuple[str, Life]:
        async with slots:
            name = f"together-{next(world.numbers)}"
            return name, await _live(world, name, Life(point))

    shared = [point for point in given if point.fault not in OWN_PROCESS]
    lived = await asyncio.gather(*(one(point) for point in shared))
    await asyncio.sleep(SETTLING)
    await operator.kill()
    return [_judged(world, name, life) for name, life in lived]


async def alone(world: World, given: Iterable[Point]) -> list[Tried]:
    """Points that harm an operator or a stream as a whole: each has its own."""
    slots = asyncio.Semaphore(ALONE)

    async def one(point: Point) -> Tried:
        async with slots:
            name = f"alone-{next(world.numbers)}"
            operator = world.operator(name)
            life = Life(point, operator.restart if point.fault in KILLS else None)
            await _live(world, name, life, operator.start)
            await asyncio.sleep(SETTLING)
            await operator.kill()
            return _judged(world, name, life)

    own = [point for point in given if point.fault in OWN_PROCESS]
    return list(await asyncio.gather(*(one(point) for point in own)))


async def _live(world: World, name: str, life: Life, start: Any = None) -> Life:
    await world.namespace(name)
    world.proxy.lives[name] = life
    world.kubelet.disturbed.add(name)
    if start:
        start()
    world.kubelet.held.add(name)
    await world.create(name, SPEC)
    seen = world.ledger.of(name)
    await _suspend_and_resume(world, name, seen)
    await until(lambda: is_complete(seen.status) and is_cleared(seen), WITHIN)
    seen.handed = await world.handed(name, HANDED)
    seen.services = len(await world.client.items(path("services", name)))
    return life


async def _suspend_and_resume(world: World, name: str, seen: Seen) -> None:
    """Once all Pods of its training run, so that each life has as many of them, and has them to remove."""
    kubelet = world.kubelet
    await until(lambda: seen.status.get("stage") == "Train" and kubelet.holds(name) == NODES, WITHIN)
    await world.edit(name, {"suspend": True})
    await until(lambda: is_said(seen.status, "Suspended"), WITHIN)
    kubelet.release(name)
    await world.edit(name, {"suspend": False})


def is_cleared(seen: Seen) -> bool:
    """Whether what follows the end is done, too."""
    return None not in seen.ttl.values() and "name" in seen.status.get("configMap", {})


def _judged(world: World, name: str, life: Life) -> Tried:
    assert life.point is not None
    seen = world.ledger.of(name)
    return Tried(life.point, life.harmed, seen.end(), wrong(seen) + life.hasty)


def judged(tried: Sequence[Tried], baseline: Calm) -> Outcome:
    """One row for each fault at writes, and at events."""

    def kind(one: Tried) -> tuple[str, str]:
        return ("write of the operator" if one.point.what == WRITE else "event of a watch"), one.point.fault

    rows: list[Row] = [
        {"at each": at, "fault": fault, **_counts(list(group), baseline)}
        for (at, fault), group in groupby(sorted(tried, key=kind), kind)
    ]
    complaints = [
        f"{one.point}: {one.wrong or ''} {differences(one.end, baseline.end)}"
        for one in tried
        if one.reached and (one.wrong or one.end != baseline.end)
    ]
    return Outcome(rows, complaints)


def _counts(tried: Sequence[Tried], baseline: Calm) -> dict[str, int]:
    reached = [one for one in tried if one.reached]
    return {
        "points": len(reached),
        NOT_REACHED: len(tried) - len(reached),
        "converged": sum(one.end == baseline.end for one in reached),
        "duplicates": sum(extra(one.end, baseline.end) > 0 for one in reached),
        "lost": sum(extra(baseline.end, one.end) > 0 for one in reached),
        "wrong on the way": sum(bool(one.wrong) for one in reached),
    }


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two ends differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line
            for name in sorted(one.keys() | other.keys())
            for line in differences(one.get(name), other.get(name), f"{where}.{name}")
        ]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [line for n, pair in pairs for line in differences(*pair, f"{where}[{n}]")]
    return [] if one == other else [f"{where}: {one!r} in place of {other!r}"]


def extra(one: Any, other: Any) -> int:
    """How many Jobs and Pods one has that the other has not."""
    return sum(
        max(0, count - other[kind].get(name, 0))
        for kind in ("jobs", "pods")
        for name, count in one[kind].items()
    )
