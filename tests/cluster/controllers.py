"""The controllers that act on Jobs and on what their owners leave behind, for tests without a node.

They make Pods of Jobs, end Jobs whose Pods have ended, and remove what belongs to nobody. Nothing runs
a Pod: a test says how it ends.
"""

import ssl
from pathlib import Path

from cluster.apiserver import ApiServer
from cluster.build import binary
from cluster.process import Process, Server, fetch, free_port

CONTROLLERS = (
    "job-controller",
    "garbage-collector-controller",
    "ttl-after-finished-controller",
    "serviceaccount-controller",
)


class Controllers(Server):
    """Some of kube-controller-manager's controllers, for one API server."""

    def __init__(self, directory: Path, server: ApiServer) -> None:
        self._port = free_port()
        self._certificates = directory / "controllers"
        command = [
            str(binary("kube-controller-manager")),
            f"--kubeconfig={server.kubeconfig}",
            f"--controllers={','.join(CONTROLLERS)}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--cert-dir={self._certificates}",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ]
        self._process = Process(command, directory / "kube-controller-manager.log")

    def start(self) -> None:
        self._process.start(self._probe)

    def stop(self) -> None:
        self._process.stop()

    def _probe(self) -> bytes:
        authority = self._certificates / "kube-controller-manager.crt"
        context = ssl.create_default_context(cafile=str(authority))
        return fetch(f"https://127.0.0.1:{self._port}/healthz", context)
