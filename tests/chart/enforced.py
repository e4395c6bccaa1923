"""What NetworkPolicies let through, tried: a kernel's own packets, about which kube-network-policies decides.

Each pod and each place has its address in a network namespace that holds nothing else, and opens real
connections there. No cluster is needed for it: the objects are what an API server would tell the controller.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from chart.policies import NAMESPACE_LABEL, Object, Peer
from cluster import packages
from cluster.build import binary
from cluster.process import CommandError, run

TESTS: Final = Path(__file__).parents[1]
NEEDED: Final = {"iptables": "iptables", "ip": "iproute2", "unshare": "util-linux"}
QUEUE: Final = 100
ALONE: Final = ("unshare", "--net", "--")
QUEUED: Final = tuple(
    f"-t mangle -A POSTROUTING -m conntrack --ctstate NEW -j NFQUEUE --queue-num {QUEUE}".split()
)
"""What has the controller decide about every new connection, also where nftables have no `queue`."""


@dataclass(frozen=True)
class Connection:
    """From a pod, or from what is none, to a port of another."""

    source: Peer
    target: Peer
    port: int
    protocol: str = "TCP"


def prepare() -> None:
    """Skip the test where nobody can enforce anything, which is a failure where a machine judges a change."""
    give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    if os.geteuid() != 0:
        give_up("only root makes a network of its own: run it as root")
    packages.become_administrator()
    packages.ensure(NEEDED)
    try:
        run(*ALONE, "iptables", *QUEUED)
    except CommandError as error:
        give_up(f"this kernel has no NFQUEUE: {error}")


Placed = list[tuple[Peer, tuple[str, ...]]]
"""Each with the addresses that it has: a pod has one of IPv4 and one of IPv6."""


def enforced(policies: Sequence[Object], connections: Sequence[Connection]) -> list[bool]:
    """Which of the connections come about where the policies are enforced."""
    sources = _placed([each.source for each in connections], 1)
    targets = _placed([each.target for each in connections], 2)
    with TemporaryDirectory() as folder:
        known = Path(folder, "objects.json")
        known.write_text(json.dumps([*policies, *_objects([*sources, *targets])]))
        given = {
            "addresses": sorted({address for _, own in (*sources, *targets) for address in own}),
            "rule": QUEUED,
            "queue": QUEUE,
            "controller": [str(binary("netpol")), str(known)],
            "connections": [_ends(each, sources, targets) for each in connections],
        }
        inside = (*ALONE, sys.executable, "-m", "chart.connecting")
        said = run(*inside, environment={"PYTHONPATH": str(TESTS)}, stdin=json.dumps(given))
    found: list[bool] = json.loads(said)
    return found


def _placed(peers: Sequence[Peer], side: int) -> Placed:
    """side: of the connections. A pod that is at both has a like at the other."""
    distinct = [peer for number, peer in enumerate(peers) if peer not in peers[:number]]
    return [(peer, _addresses(peer, side, number)) for number, peer in enumerate(distinct, start=1)]


def _addresses(peer: Peer, side: int, number: int) -> tuple[str, ...]:
    return (f"10.244.{side}.{number}", f"fd00:244:{side}::{number}") if peer.namespace else (peer.address,)


def _ends(connection: Connection, sources: Placed, targets: Placed) -> list[Any]:
    (target, *_) = _of(connection.target, targets)
    (source,) = (each for each in _of(connection.source, sources) if (":" in each) == (":" in target))
    return [source, target, connection.port, connection.protocol]


def _of(peer: Peer, placed: Placed) -> tuple[str, ...]:
    return next(own for known, own in placed if known == peer)


def _objects(placed: Placed) -> list[Object]:
    """The pods, and the namespaces that they are in."""
    pods = [_pod(peer, own) for peer, own in placed if peer.namespace]
    names = {pod["metadata"]["namespace"] for pod in pods}
    return [*pods, *map(_namespace, sorted(names))]


def _namespace(name: str) -> Object:
    labels = {NAMESPACE_LABEL: name}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _pod(peer: Peer, addresses: Sequence[str]) -> Object:
    name = addresses[0].replace(".", "-")
    ports = [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in peer.ports.items()]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": peer.namespace, "labels": dict(peer.labels)},
        "spec": {"nodeName": "node", "containers": [{"name": "main", "ports": ports}]},
        "status": {"phase": "Running", "podIPs": [{"ip": address} for address in addresses]},
    }
