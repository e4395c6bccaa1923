"""How the operator carries thousands of runs: `python -m bench.operator [--quick]`.

The API server, its etcd and the Job controller are the real ones; what a kubelet would do is done at once
by the benchmark. All of them share one machine with the operator, so latencies are those of a full
machine, and the CPU time of each is told apart. One API server is filled in the order of the phases.
"""

import argparse
import asyncio
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console

from apiserver.identity import operator_kubeconfig
from apiserver.kube import serve_resource
from apiserver.operating import Namespace, Operator
from bench.operator.fleet import Fleet
from bench.operator.measure import QUICK, Measurer, Plan, Values
from bench.results import Row, table, write_results
from cluster.apiserver import ApiServer
from cluster.controllers import Controllers
from lorafinetune.shell.client import Client
from lorafinetune.shell.connection import Connection

NAME: Final = "operator"
GOALS: Final = {
    "Job done → next Job: p99 ms": "< 1000",
    "operator: MB": "< 200",
    "API writes while idle for a minute": "0",
    "Jobs and Pods twice, after kill -9": "0",
}


def main() -> None:
    options = argparse.ArgumentParser(prog="bench.operator")
    options.add_argument("--quick", action="store_true", help="a smoke test, of which nothing is kept")
    is_quick = options.parse_args().quick
    plan = QUICK if is_quick else Plan()
    with tempfile.TemporaryDirectory() as folder, world(Path(folder)) as (server, operator):
        few, many = asyncio.run(measure(plan, server, operator))
    rows = list(joined(plan, few, many))
    if is_quick:
        Console().print(table(NAME, rows))
    else:
        write_results(NAME, rows)


@contextmanager
def world(folder: Path) -> Iterator[tuple[ApiServer, Operator]]:
    """An API server that serves our resource, the controllers of Jobs, and the operator for all of it."""
    with ApiServer(folder) as server:
        serve_resource(server)
        operator = Operator(operator_kubeconfig(server, folder), folder / "operator.log")
        with Controllers(folder, server):
            operator.start()
            try:
                yield server, operator
            finally:
                operator.stop()


async def measure(plan: Plan, server: ApiServer, operator: Operator) -> tuple[Values, Values]:
    """What was measured with few runs, and what with many."""
    namespace = Namespace(server, "bench").name
    authority = ssl.create_default_context(cafile=str(server.ca_file))
    connection = Connection(server.url, authority, lambda: {"Authorization": f"Bearer {server.token}"})
    async with connection.session(lambda *_: None) as session, asyncio.TaskGroup() as tasks:
        fleet = Fleet(Client(session, connection.server), namespace)
        begun = fleet.begin(tasks)
        measurer, few, many = Measurer(plan, server, operator, fleet), Values(), Values()
        for values, phase in (
            (few, measurer.steady),
            (few, measurer.burst),
            (many, measurer.fill),
            (many, measurer.idle),
            (many, measurer.going_on),
            (many, measurer.kill),
        ):
            began = time.monotonic()
            values |= await phase()
            sys.stderr.write(f"{phase.__name__}: {time.monotonic() - began:.0f} s\n")
        for task in begun:
            task.cancel()
    return few, many


def joined(plan: Plan, few: Values, many: Values) -> Iterator[Row]:
    """One row for each thing that was measured."""
    for what in dict.fromkeys([*few, *many]):
        yield {
            "what": what,
            f"{plan.steady:,} runs": few.get(what, ""),
            f"{plan.present:,} runs": many.get(what, ""),
            "goal": GOALS.get(what, ""),
        }


if __name__ == "__main__":
    main()
