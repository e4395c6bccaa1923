"""The S3 server of the runs: a program of the node beside the pods, on a small disk of its own.

So it outlives whatever happens to pods and to the Node, and may itself be killed, have its disk full or its
clock wrong, which nobody else notices. Pods reach it by a Service, as they would any other.
"""

import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from chaos import disk, hub, service
from chaos.subjects import TINY, Subject
from cluster import network
from cluster.build import binary
from cluster.components import Component
from cluster.s3server import HEALTH, S3Endpoint
from cluster.testbed import Cluster
from e2e.tenant import Store

PORT: Final = 7171
PROGRAM: Final = "depot"
"""A name that no program of a pod has."""
STAND_IN: Final = Path(__file__).with_name("stand_in.py")


class Depot(S3Endpoint):
    """One that is there for as long as a block of `running` is. size: of its disk. inside: its address for
    pods."""

    def __init__(self, cluster: Cluster, size: str) -> None:
        super().__init__(f"http://{network.NODE}:{PORT}", "depot", secrets.token_hex(16))
        self._cluster = cluster
        self._size = size
        self._node = cluster.node
        self._namespace = f"store-{secrets.token_hex(4)}"
        self.inside = f"http://{PROGRAM}.{self._namespace}.svc:{PORT}"
        self._folder = self._node.layout.root / f"{PROGRAM}-disk"
        self._users = self._node.layout.root / f"{PROGRAM}-users"

    @contextmanager
    def running(self) -> Iterator[None]:
        for folder in (self._folder, self._users):
            folder.mkdir()
        self._node.run("mount", "-t", "tmpfs", "-o", f"size={self._size}", "tmpfs", str(self._folder))
        self._link().symlink_to(binary("versitygw"))
        self._node.serve(self._server())
        for document in service.manifests(self._namespace, PROGRAM, PORT):
            self._cluster.client.apply(document)
        try:
            yield
        finally:
            self._cluster.client.delete(f"/api/v1/namespaces/{self._namespace}")
            self._node.group.kill_program(PROGRAM)
            self._link().unlink()
            self._node.run("umount", "--lazy", str(self._folder))
            self._folder.rmdir()
            shutil.rmtree(self._users)

    @contextmanager
    def away(self) -> Iterator[None]:
        """It is killed, and is there again after the block, with what it had."""
        with self._node.away(self._server()):
            yield

    @contextmanager
    def silent(self) -> Iterator[None]:
        """It stands still while the block runs."""
        with self._node.silent(PROGRAM):
            yield

    @contextmanager
    def full(self) -> Iterator[None]:
        """Its disk takes nothing more while the block runs."""
        with disk.full(self._node.run, self._folder, self._size):
            yield

    @contextmanager
    def refusing(self, status: int, code: str) -> Iterator[None]:
        """While the block runs, all that it is asked for is refused as S3 does for this reason."""
        flags = [str(STAND_IN), network.NODE, str(PORT), str(status), code]
        with self.away():
            self._node.serve(Component(STAND_IN.stem, flags, self.endpoint + HEALTH, sys.executable))
            try:
                yield
            finally:
                self._node.group.kill_program(STAND_IN.stem)

    def _link(self) -> Path:
        return self._node.layout.programs / PROGRAM

    def _server(self) -> Component:
        flags = [
            f"--port={network.NODE}:{PORT}",
            f"--region={self.region}",
            f"--access={self.access_key}",
            f"--secret={self.secret_key}",
            f"--health={HEALTH}",
            f"--iam-dir={self._users}",
            "--iam-cache-disable",
            "--keep-alive",
            "--quiet",
            "posix",
            str(self._folder),
        ]
        return Component(PROGRAM, flags, self.endpoint + HEALTH, str(self._link()))


@contextmanager
def supplied(cluster: Cluster, subject: Subject = TINY) -> Iterator[Store]:
    """A bucket of one of these, with what the runs begin with, and a hub, while the block runs."""
    depot = Depot(cluster, subject.disk)
    with TemporaryDirectory() as folder, depot.running():
        store = subject.store(depot, "chaos", depot.inside)
        store.fill(Path(folder))
        with hub.serving(cluster, store.contents("rows.jsonl").get("rows.jsonl", b"")) as store.hub:
            yield store
