"""How the operator carries thousands of runs: `python -m bench.operator [--quick] [--alone]`.

The API server, its etcd and the Job controller are the real ones; what a kubelet would do is done at once
by the benchmark. All of them share one machine with the operator, so runs arrive at a rate that the machine
carries with its control plane, and the CPU time of each is told apart; what it carries at most is a row of
its own. Kubeflow Trainer's controller then gets an API server, a machine and arrivals like these.
"""

import argparse
import asyncio
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from rich.console import Console

from apiserver.identity import operator_kubeconfig
from apiserver.kube import serve_resource
from apiserver.operating import Namespace, Operator
from bench.operator.calls import BUDGET
from bench.operator.fleet import Fleet
from bench.operator.measure import QUICK, TO_FIRST, TO_NEXT, Measurer, Plan, Values
from bench.operator.peer import TITLE, Peer, Trainer
from bench.operator.reach import CALLS, MEMORY
from bench.results import Row, table, write_results
from cluster.apiserver import ApiServer
from cluster.controllers import Controllers
from lorafinetune.shell.client import Client
from lorafinetune.shell.connection import ServerConnection

NAME: Final = "operator"
GOALS: Final = {
    f"{TO_FIRST}: p99 ms": "< 1000",
    f"{TO_NEXT}: p99 ms": "< 1000",
    MEMORY: "< 200",
    CALLS: f"<= {sum(BUDGET.values())}",
    "API writes while idle for a minute": "0",
    "Jobs and Pods twice, after kill -9": "0",
}


def main() -> None:
    options = argparse.ArgumentParser(prog="bench.operator")
    options.add_argument("--quick", action="store_true", help="a smoke test, of which nothing is kept")
    options.add_argument("--alone", action="store_true", help="without the peer, which takes long to build")
    given = options.parse_args()
    plan = QUICK if given.quick else Plan()
    peer = {} if given.alone else {TITLE: theirs(plan)}
    rows = list(joined(ours(plan) | peer))
    if given.quick:
        Console().print(table(NAME, rows))
    else:
        write_results(NAME, rows)


def ours(plan: Plan) -> dict[str, Values]:
    """What was measured with few runs, and what with many, by the title of the column."""
    with tempfile.TemporaryDirectory() as path, ApiServer(folder := Path(path)) as server:
        serve_resource(server)
        operator = Operator(operator_kubeconfig(server, folder), folder / "operator.log")
        with Controllers(folder, server):
            operator.start()
            try:
                few, many = asyncio.run(measure(plan, server, operator))
            finally:
                operator.stop()
    return {f"{plan.few:,} runs": few, f"{plan.many:,} runs": many}


def theirs(plan: Plan) -> Values:
    """What was measured of the peer."""
    with tempfile.TemporaryDirectory() as path, ApiServer(folder := Path(path)) as server:
        trainer = Trainer(server, folder)
        trainer.start()
        try:
            return asyncio.run(measure_peer(plan, server, trainer))
        finally:
            trainer.stop()


async def measure(plan: Plan, server: ApiServer, operator: Operator) -> tuple[Values, Values]:
    namespace = Namespace(server, "bench").name
    async with connection(server).session(lambda *_: None) as session, asyncio.TaskGroup() as tasks:
        fleet = Fleet(Client(session, server.url), namespace)
        begun = fleet.begin(tasks)
        measurer = Measurer(plan, server, operator, fleet)
        few, many = await measurer.few(), await measurer.many()
        for task in begun:
            task.cancel()
    return few, many


async def measure_peer(plan: Plan, server: ApiServer, trainer: Trainer) -> Values:
    async with connection(server).session(lambda *_: None) as session:
        return await Peer(plan, server, trainer, session).measure()


def connection(server: ApiServer) -> ServerConnection:
    authority = ssl.create_default_context(cafile=str(server.ca_file))
    return ServerConnection(server.url, authority, lambda: {"Authorization": f"Bearer {server.token}"})


def joined(columns: Mapping[str, Values]) -> Iterator[Row]:
    """One row for each thing that was measured."""
    for what in dict.fromkeys(what for values in columns.values() for what in values):
        told = {title: values.get(what, "") for title, values in columns.items()}
        yield {"what": what, **told, "goal": GOALS.get(what, "")}


if __name__ == "__main__":
    main()
