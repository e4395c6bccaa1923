"""The phases of the benchmark, in the order in which they fill one API server."""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from apiserver.operating import Operator
from bench.operator.calls import calls
from bench.operator.fleet import Fleet
from bench.operator.ledger import percentile
from bench.operator.reach import CALLS, EMPTY, MEMORY
from bench.operator.usage import OPERATOR, SERVER, Meter, operator_memory
from cluster.apiserver import ApiServer
from cluster.process import fetch

WITHIN: Final = 240.0
STILL: Final = 3.0
"""Seconds without a write after which nothing is left to do."""
WRITES: Final = ("POST", "PUT", "PATCH", "DELETE", "APPLY")
RESOURCES: Final = ("lorafinetunes", "jobs", "pods", "events")
LOOKS: Final = "lorafinetune_reconcile_latency_seconds_count"
ARRIVE: Final = "resources that arrive each second"
TO_FIRST: Final = "resource → first Job"
TO_NEXT: Final = "Job done → next Job"
FIRST_JOBS: Final = "first Jobs a second, machine full"
CALLS_TO_FIRST: Final = "API calls to the first Job"

Values = dict[str, int | float]


@dataclass(frozen=True)
class Plan:
    """How many runs are there when latencies are taken: few, then many. lives: how many then arrive, and at
    which rate a second. idle: seconds."""

    few: int = 1000
    many: int = 5000
    lives: int = 100
    rate: float = 2.0
    burst: int = 80
    killed: int = 60
    idle: float = 60.0


QUICK: Final = Plan(few=50, many=150, lives=20, burst=30, killed=20, idle=5.0)


def names(phase: str, count: int) -> list[str]:
    return [f"{phase}-{number}" for number in range(count)]


class Measurer:
    """Each method is a phase and returns what it measured, by the name of the row."""

    def __init__(self, plan: Plan, server: ApiServer, operator: Operator, fleet: Fleet) -> None:
        self._plan = plan
        self._server = server
        self._operator = operator
        self._fleet = fleet
        self._held = names("held", plan.many)
        self._empty = round(operator_memory()[0])

    async def few(self) -> Values:
        """With few runs that are there."""
        return {
            **await self._fill(self._held[: self._plan.few]),
            **await self._steady(names("few", self._plan.lives)),
            **_memory(),
            EMPTY: self._empty,
        }

    async def many(self) -> Values:
        """With many."""
        return {
            **await self._fill(self._held[self._plan.few :]),
            **await self._idle(),
            **await self._steady(names("many", self._plan.lives)),
            **await self._burst(names("burst", self._plan.burst)),
            **_memory(),
            **await self._kill(self._held[: self._plan.killed]),
        }

    async def _fill(self, held: Sequence[str]) -> Values:
        """Runs that arrive as fast as the API server takes them, and stay in their first stage."""
        began, ledger, meter, asked = time.monotonic(), self._fleet.ledger, Meter(), self._calls()
        self._fleet.held |= set(held)
        await self._fleet.arrive(held)
        await self._fleet.until(lambda: len(ledger.to_first_job(held)) == len(held), WITHIN)
        took = time.monotonic() - began
        await self._still()
        spent = (self._calls() - asked).total()
        return {
            FIRST_JOBS: round(len(held) / took, 1),
            **percentiles(f"{TO_FIRST}, machine full", ledger.to_first_job(held)),
            **to_first_job(meter, len(held)),
            CALLS_TO_FIRST: round(spent / len(held), 2),
        }

    async def _steady(self, arriving: Sequence[str]) -> Values:
        """Runs that arrive at a rate and go through all their stages."""
        meter, asked, looked = Meter(), self._calls(), self._operator.metric(LOOKS)
        await self._fleet.arrive(arriving, self._plan.rate)
        await self._ended(arriving)
        shares, lives = meter.shares(), len(arriving)
        values: Values = {ARRIVE: self._plan.rate} | self._latencies(arriving)
        values |= percents(shares)
        values |= {f"{name}: CPU ms a life": round(ms, 1) for name, ms in meter.each(lives).items()}
        values["looks a life"] = round((self._operator.metric(LOOKS) - looked) / lives, 1)
        spent = self._calls() - asked
        values[CALLS] = round(spent.total() / lives, 2)
        return values | {f"{CALLS}: {what}": round(n / lives, 2) for what, n in sorted(spent.items())}

    async def _burst(self, arriving: Sequence[str]) -> Values:
        """Runs that arrive as fast as the API server takes them."""
        began = time.monotonic()
        await self._fleet.arrive(arriving)
        await self._ended(arriving)
        took = max(self._fleet.ledger.complete[name] for name in arriving) - began
        return {"whole lives a second, machine full": round(len(arriving) / took, 1)}

    async def _idle(self) -> Values:
        """Nothing happens."""
        meter, before = Meter(), self._writes()
        await asyncio.sleep(self._plan.idle)
        written, used = self._writes() - before, meter.used()
        return {
            "API writes while idle for a minute": round(written * 60 / self._plan.idle),
            "operator: CPU ms a second while idle": round(1000 * used[OPERATOR] / self._plan.idle, 1),
        }

    async def _kill(self, released: Sequence[str]) -> Values:
        """The operator is killed while some of the many go on, and started again."""
        ledger, mine = self._fleet.ledger, set(released)
        self._fleet.release(released)
        half = 2 * len(released)
        await self._fleet.until(lambda: sum(step[0] in mine for step in ledger.done) >= half, WITHIN)
        self._operator.kill()
        await asyncio.sleep(1)
        began, meter = time.monotonic(), Meter()
        self._operator.launch()
        await self._fleet.until(self._is_ready, WITHIN)
        ready, used = time.monotonic() - began, meter.used()
        await self._fleet.until(lambda: self._operator.metric(LOOKS) >= len(ledger.created), WITHIN)
        looked = time.monotonic() - began
        await self._ended(released)
        return {
            "start-up s": round(ready, 1),
            "start-up: operator CPU s": round(used[OPERATOR], 1),
            "start-up: s until each run was looked at": round(looked, 1),
            "Jobs and Pods twice, after kill -9": ledger.duplicates(ledger.created.keys()),
            "metrics: answer ms": round(1000 * await asyncio.to_thread(self._scrape)),
            "operator: MB after the start": _memory()[MEMORY],
        }

    async def _ended(self, arriving: Sequence[str]) -> None:
        await self._fleet.until(lambda: not self._fleet.ledger.missing(arriving), WITHIN)

    def _latencies(self, arriving: Collection[str]) -> Values:
        ledger = self._fleet.ledger
        return percentiles(TO_FIRST, ledger.to_first_job(arriving)) | percentiles(
            TO_NEXT, ledger.to_next_job(arriving)
        )

    def _is_ready(self) -> bool:
        try:
            return bool(fetch(f"{self._operator.url}/readyz"))
        except OSError:
            return False

    def _scrape(self) -> float:
        began = time.monotonic()
        fetch(f"{self._operator.url}/metrics")
        return time.monotonic() - began

    def _calls(self) -> Counter[str]:
        return calls(fetch(f"{self._operator.url}/metrics").decode())

    def _writes(self) -> int:
        """What anybody wrote, as the API server counts it."""
        families = text_string_to_metric_families(self._server.request("GET", "/metrics").decode())
        samples = (s for family in families for s in family.samples if s.name == "apiserver_request_total")
        return sum(
            int(s.value) for s in samples if s.labels["verb"] in WRITES and s.labels["resource"] in RESOURCES
        )

    async def _still(self) -> None:
        deadline, written = time.monotonic() + WITHIN, -1
        while (now := self._writes()) != written and time.monotonic() < deadline:
            written = now
            await asyncio.sleep(STILL)


def to_first_job(meter: Meter, count: int) -> Values:
    """What the way to the first Job costs one resource."""
    spent = meter.each(count)
    return {f"{name}: CPU ms to the first Job": round(spent[name], 1) for name in (OPERATOR, SERVER)}


def percents(shares: Mapping[str, float]) -> Values:
    """How full the machine was, and whose work it was."""
    told = {"machine: % busy": round(sum(shares.values()))}
    return told | {f"{name}: % of the machine": round(share, 1) for name, share in shares.items()}


def percentiles(name: str, seconds: Sequence[float]) -> Values:
    return dict(_percentiles(name, seconds))


def _percentiles(name: str, seconds: Sequence[float]) -> Iterator[tuple[str, int]]:
    for percent in (50, 99):
        yield f"{name}: p{percent} ms", round(1000 * percentile(seconds, percent))


def _memory() -> Values:
    now, most = operator_memory()
    return {MEMORY: round(now), f"{MEMORY} at most": round(most)}
