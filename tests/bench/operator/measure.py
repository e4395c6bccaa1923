"""The phases of the benchmark, in the order in which they fill one API server."""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from apiserver.operating import Operator
from bench.operator.calls import calls
from bench.operator.fleet import Fleet
from bench.operator.ledger import percentile
from bench.operator.reach import CALLS, EMPTY
from bench.operator.usage import OPERATOR, cpu_seconds, operator_memory, since
from cluster.apiserver import ApiServer
from cluster.process import fetch

WITHIN: Final = 240.0
STILL: Final = 5.0
"""Seconds without anything to do before an idle minute is counted."""
WRITES: Final = ("POST", "PUT", "PATCH", "DELETE", "APPLY")
RESOURCES: Final = ("lorafinetunes", "jobs", "pods", "events")
LOOKS: Final = "lorafinetune_reconcile_latency_seconds_count"

Values = dict[str, int | float]


@dataclass(frozen=True)
class Plan:
    """How many runs each phase takes, and at which rate a second they arrive. idle: seconds."""

    steady: int = 1000
    rate: float = 4.0
    burst: int = 300
    present: int = 5000
    going_on: int = 200
    killed: int = 200
    idle: float = 60.0

    def names(self, phase: str, count: int) -> list[str]:
        return [f"{phase}-{number}" for number in range(count)]


QUICK: Final = Plan(steady=40, rate=4.0, burst=40, present=200, going_on=20, killed=20, idle=5.0)


class Measurer:
    """Each method is a phase and returns what it measured, by the name of the row."""

    def __init__(self, plan: Plan, server: ApiServer, operator: Operator, fleet: Fleet) -> None:
        self._plan = plan
        self._server = server
        self._operator = operator
        self._fleet = fleet
        self._held = plan.names("held", plan.present - plan.steady - plan.burst)

    async def steady(self) -> Values:
        """Runs that arrive at a rate and go through all their stages."""
        names, before = self._plan.names("steady", self._plan.steady), cpu_seconds()
        empty, asked, looked = operator_memory()[0], self._calls(), self._operator.metric(LOOKS)
        await self._fleet.arrive(names, self._plan.rate)
        await self._ended(names)
        used, lives = since(before), len(names)
        values: Values = {"resources that arrive each second": self._plan.rate}
        values |= self._latencies(names) | _memory()
        values |= {f"{name}: CPU ms a life": round(1000 * s / lives, 1) for name, s in used.items()}
        looked = self._operator.metric(LOOKS) - looked
        values[EMPTY] = round(empty)
        values["looks a life"] = round(looked / lives, 1)
        spent = self._calls() - asked
        values[CALLS] = round(spent.total() / lives, 2)
        for what, number in spent.items():
            values[f"API calls a life: {what}"] = round(number / lives, 2)
        return values

    async def burst(self) -> Values:
        """Runs that arrive as fast as the API server takes them."""
        names, began = self._plan.names("burst", self._plan.burst), time.monotonic()
        await self._fleet.arrive(names)
        await self._ended(names)
        took = max(self._fleet.ledger.complete[name] for name in names) - began
        return {"whole lives a second, machine full": round(len(names) / took, 1)}

    async def fill(self) -> Values:
        """Runs that are there at last: most of them run their first stage."""
        began, ledger = time.monotonic(), self._fleet.ledger
        self._fleet.held |= set(self._held)
        await self._fleet.arrive(self._held)
        arrived = time.monotonic() - began
        await self._fleet.until(lambda: len(ledger.to_first_job(self._held)) == len(self._held), WITHIN)
        values: Values = {"resources that arrive each second": round(len(self._held) / arrived, 1)}
        return values | self._latencies(self._held)

    async def idle(self) -> Values:
        """Nothing happens."""
        await asyncio.to_thread(self._wait_until_still)
        used, before = cpu_seconds(), self._writes()
        await asyncio.sleep(self._plan.idle)
        written, used = self._writes() - before, since(used)
        return {
            "API writes while idle for a minute": round(written * 60 / self._plan.idle),
            "operator: CPU ms a second while idle": round(1000 * used[OPERATOR] / self._plan.idle, 1),
            **_memory(),
        }

    async def going_on(self) -> Values:
        """Some of the many go on at the same rate."""
        names, before = self._held[: self._plan.going_on], cpu_seconds()
        for name in names:
            self._fleet.release([name])
            await asyncio.sleep(1 / self._plan.rate)
        await self._ended(names)
        values = {
            f"{name}: CPU ms a life": round(1000 * s / len(names), 1) for name, s in since(before).items()
        }
        return self._latencies(names) | values

    async def kill(self) -> Values:
        """The operator is killed while some of the many go on, and started again."""
        names, ledger = self._held[self._plan.going_on :][: self._plan.killed], self._fleet.ledger
        self._fleet.release(names)
        half = 2 * len(names)
        await self._fleet.until(lambda: sum(step[0] in set(names) for step in ledger.done) >= half, WITHIN)
        self._operator.kill()
        await asyncio.sleep(1)
        began = time.monotonic()
        self._operator.launch()
        await self._fleet.until(self._is_ready, WITHIN)
        started = time.monotonic() - began
        await self._ended(names)
        everything = ledger.created.keys()
        return {
            "start-up s": round(started, 1),
            "Jobs and Pods twice, after kill -9": ledger.duplicates(everything),
            "metrics: answer ms": round(1000 * await asyncio.to_thread(self._scrape)),
            "operator: MB after the start": _memory()["operator: MB"],
        }

    async def _ended(self, names: Sequence[str]) -> None:
        await self._fleet.until(lambda: not self._fleet.ledger.missing(names), WITHIN)

    def _latencies(self, names: Collection[str]) -> Values:
        ledger = self._fleet.ledger
        return dict(
            [
                *_percentiles("resource → first Job", ledger.to_first_job(names)),
                *_percentiles("Job done → next Job", ledger.to_next_job(names)),
            ]
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

    def _wait_until_still(self) -> None:
        deadline, written = time.monotonic() + WITHIN, -1
        while (now := self._writes()) != written and time.monotonic() < deadline:
            written = now
            time.sleep(STILL)


def _percentiles(name: str, seconds: Sequence[float]) -> Iterator[tuple[str, float]]:
    if seconds:
        yield f"{name}: p50 ms", round(1000 * percentile(seconds, 50))
        yield f"{name}: p99 ms", round(1000 * percentile(seconds, 99))


def _memory() -> Values:
    now, most = operator_memory()
    return {"operator: MB": round(now), "operator: MB at most": round(most)}
