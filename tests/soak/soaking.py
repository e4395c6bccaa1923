"""Lives under an operator, what it held on the way, and what was left in the end."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression, median
from typing import Final

from rich.progress import track

from apiserver.identity import operator_kubeconfig
from apiserver.kube import serve_resource
from bench.operator.__main__ import connection
from bench.results import Row
from cluster.apiserver import ApiServer
from cluster.controllers import Controllers
from cluster.process import Process, fetch, free_port
from faults.kubelet import Kubelet
from lorafinetune.shell.client import Client
from soak.lives import Lives, left, make_namespaces

ALLOWED: Final = {"file descriptors": 3.0, "threads": 1.0, "tasks": 3.0}
"""By how much more may be held towards the end than after a quarter of the time, at the median."""
MEMORY: Final = "memory MB"
BYTES_A_LIFE: Final = 4000
"""By how much memory may grow in the second half. Of a life some 12 deletions are remembered, of 150 bytes
each, which is half of it. Whoever kept an object or two of each life, such as its Pods, would be above."""
SETTLED_WITHIN: Final = 60.0
CLOSING: Final = 0.25
"""Seconds that connections with TLS take to be closed: aiohttp does not wait for them."""
LINES_OF_TROUBLE: Final = (" ERROR ", " CRITICAL ", "Traceback")

Held = Mapping[str, float]


@dataclass(frozen=True)
class Soaked:
    """lives: of each kind. held: by the operator, once a second. left: objects in the cluster. trouble: lines
    of the operator's log."""

    lives: dict[str, int]
    held: Sequence[Held]
    left: dict[str, int]
    trouble: list[str]

    def rows(self) -> list[Row]:
        """What was held after a quarter and towards the end, and what was left."""
        goals = {MEMORY: "", **{what: f"+ {more:g}" for what, more in ALLOWED.items()}}
        held: list[Row] = [
            {"what": what, "after a quarter": self._early(what), "at the end": self._late(what), "goal": goal}
            for what, goal in goals.items()
        ]
        grown: Row = {
            "what": "bytes a life that memory grew by in the second half",
            "after a quarter": "",
            "at the end": self._bytes_a_life(),
            "goal": f"at most {BYTES_A_LIFE}",
        }
        gone: list[Row] = [
            {"what": f"{what} left", "after a quarter": "", "at the end": count, "goal": "0"}
            for what, count in self.left.items()
        ]
        return [*held, grown, *gone]

    def complaints(self) -> list[str]:
        grown = [
            f"{what} grew from {self._early(what):g} to {self._late(what):g}"
            for what, more in ALLOWED.items()
            if self._late(what) > self._early(what) + more
        ]
        if self._bytes_a_life() > BYTES_A_LIFE:
            grown.insert(0, f"memory grew by {self._bytes_a_life():,} bytes a life")
        left = [f"{count} {what} are left" for what, count in self.left.items() if count]
        return grown + left + self.trouble

    def _bytes_a_life(self) -> int:
        """As a line through the second half rises: lives end about as often all the time."""
        late = [each[MEMORY] for each in self.held[len(self.held) // 2 :]]
        slope, _ = linear_regression(range(len(late)), late)
        return round(slope * 1e6 * len(self.held) / sum(self.lives.values()))

    def _early(self, what: str) -> float:
        quarter = len(self.held) // 4
        return median(each[what] for each in self.held[quarter : quarter + max(quarter // 2, 1)])

    def _late(self, what: str) -> float:
        return median(each[what] for each in self.held[-max(len(self.held) // 8, 1) :])


def soak(folder: Path, lives: int, at_once: int, seconds: float, seed: int) -> Soaked:
    """At most so many lives, of which none begins after so many seconds."""
    with ApiServer(folder) as server:
        serve_resource(server)
        url = f"http://127.0.0.1:{free_port()}"
        operator = _operator(server, folder, url)
        with Controllers(folder, server):
            operator.start(lambda: fetch(f"{url}/readyz"))
            try:
                lived, remains, samples = asyncio.run(_live(server, folder, lives, at_once, seconds, seed))
            finally:
                operator.stop(5)
    lines = (folder / "operator.log").read_text().splitlines()
    return Soaked(
        lived, samples, remains, [line for line in lines if any(w in line for w in LINES_OF_TROUBLE)]
    )


def _operator(server: ApiServer, folder: Path, url: str) -> Process:
    environment = {
        "KUBECONFIG": str(operator_kubeconfig(server, folder)),
        "LORAFINETUNE_DOWNLOAD_IMAGE": "example.com/download:1",
        "LORAFINETUNE_TRAIN_IMAGE": "example.com/train:1",
        "LORAFINETUNE_STATUS_ADDRESS": url.removeprefix("http://"),
        "PYTHONPATH": ":".join(sys.path),
    }
    command = [sys.executable, "-W", "error", "-m", "soak.program", str(folder / "held")]
    return Process(command, folder / "operator.log", environment)


async def _live(
    server: ApiServer, folder: Path, lives: int, at_once: int, seconds: float, seed: int
) -> tuple[dict[str, int], dict[str, int], list[Held]]:
    async with connection(server).session(lambda *_: None) as session, asyncio.TaskGroup() as tasks:
        client = Client(session, server.url)
        await make_namespaces(client)
        many = Lives(client, seed)
        begun = [tasks.create_task(many.watch()), tasks.create_task(Kubelet(client).run())]
        await _all(many, lives, at_once, seconds)
        samples = [json.loads(line) for line in (folder / "held").read_text().splitlines()]
        remains = await _settled(client)
        for task in begun:
            task.cancel()
    await asyncio.sleep(CLOSING)
    return many.count, remains, samples


async def _all(many: Lives, lives: int, at_once: int, seconds: float) -> None:
    last, numbers = time.monotonic() + seconds, iter(track(range(lives), "lives", transient=True))

    async def some() -> None:
        while time.monotonic() < last and (number := next(numbers, None)) is not None:
            await many.one(number)

    await asyncio.gather(*(some() for _ in range(at_once)))


async def _settled(client: Client) -> dict[str, int]:
    """What is left, once nothing is or a minute has gone by."""
    until = time.monotonic() + SETTLED_WITHIN
    while any((remains := await left(client)).values()) and time.monotonic() < until:
        await asyncio.sleep(1)
    return remains
