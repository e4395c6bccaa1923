"""The hub from which the runs download their rows: a program of the node, as their store is."""

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from chaos import public_hub, service
from chaos.public_hub import PROGRAM
from cluster import network
from cluster.components import Component
from cluster.testbed import Cluster

PORT: Final = 7272
TESTS: Final = Path(__file__).parents[1]


@contextmanager
def serving(cluster: Cluster, rows: bytes) -> Iterator[str]:
    """Its address for pods, while the block runs."""
    namespace = f"hub-{secrets.token_hex(4)}"
    file = cluster.node.layout.root / "rows-of-hub.jsonl"
    file.write_bytes(rows)
    cluster.node.serve(_server(file))
    for document in service.manifests(namespace, PROGRAM, PORT):
        cluster.client.apply(document)
    try:
        yield f"http://{PROGRAM}.{namespace}.svc:{PORT}"
    finally:
        cluster.client.delete(f"/api/v1/namespaces/{namespace}")
        cluster.node.group.kill_program(PROGRAM)
        file.unlink()


def _server(rows: Path) -> Component:
    way, path = (network.NODE, str(PORT)), f"PYTHONPATH={TESTS}"
    flags = [path, sys.executable, "-m", public_hub.__name__, *way, str(rows)]
    return Component(PROGRAM, flags, f"http://{':'.join(way)}{public_hub.THERE}", "env")
