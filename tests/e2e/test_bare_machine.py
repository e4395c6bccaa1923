"""A cluster that has ended was never there, whichever way it ended.

These tests come first, while no other test run has the cluster up: one that is in use stays.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import packages, testbed
from cluster.machine import hindrance
from cluster.process import CommandError, run
from cluster.single_node import SingleNode
from e2e.traces import traces

pytestmark = pytest.mark.e2e
TESTS = str(Path(__file__).parents[1])


@pytest.fixture
def before() -> Iterator[set[str]]:
    """What was there before; what was not there then, is gone afterwards even when the test fails."""
    if os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names a cluster to test on")
    if why := hindrance():
        pytest.skip(f"no cluster can be made here ({why})")
    with testbed.nobody_uses_it() as free:
        if not free:
            pytest.skip("the cluster of this machine is in use")
        packages.ensure()
        cluster("down")
        yield traces()
        cluster("down")


def cluster(what: str) -> None:
    run(sys.executable, "-m", f"cluster.{what}", within=500, environment={"PYTHONPATH": TESTS})


def test_nothing_is_left_of_a_cluster_that_went_down(before: set[str]) -> None:
    cluster("up")
    assert len(traces() - before) > 10
    cluster("down")
    assert traces() == before


def test_going_up_twice_is_going_up_once(before: set[str]) -> None:
    cluster("up")
    first = SingleNode().group.processes()
    cluster("up")
    assert first <= SingleNode().group.processes()


def test_addresses_that_the_machine_uses_are_not_taken(before: set[str]) -> None:
    run("ip", "link", "add", "neighbour", "type", "veth", "peer", "name", "neighbour-peer")
    try:
        run("ip", "address", "add", "10.96.7.1/24", "dev", "neighbour")
        run("ip", "link", "set", "neighbour", "up")
        with pytest.raises(CommandError, match=r"the cluster needs 10\.96\.7\.0/24, which is in use"):
            cluster("up")
    finally:
        run("ip", "link", "delete", "neighbour")
    cluster("down")
    assert traces() == before


def test_who_is_not_root_is_told_what_to_do() -> None:
    attempt = "import os; from cluster import up; os.seteuid(65534); raise SystemExit(up.main())"
    with pytest.raises(CommandError, match="run it as root, or set KUBECONFIG to a cluster that you have"):
        run(sys.executable, "-c", attempt, environment={"PYTHONPATH": TESTS})


@pytest.mark.parametrize("program", ["machine.log", "etcd.log", "kube-apiserver.log", "kubelet.log"])
def test_nothing_is_left_of_a_start_that_was_killed(before: set[str], program: str) -> None:
    command = [sys.executable, "-m", "cluster.up"]
    environment = {**os.environ, "PYTHONPATH": TESTS}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as start:
        _await(SingleNode().layout.logs / program)
        start.send_signal(signal.SIGKILL)
    assert not SingleNode().running()
    cluster("down")
    assert traces() == before


def _await(file: Path) -> None:
    deadline = time.monotonic() + 120
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} did not appear"
        time.sleep(0.02)
