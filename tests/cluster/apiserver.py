"""A Kubernetes API server with its etcd, for tests that need the real one but no pods.

It serves, validates, admits and authorizes as in any cluster. Nothing acts on what it stores: there
is no controller, so a Job makes no Pod, and a namespace gets no service account unless a test
creates it. The server signs its own certificate and takes a bearer token, so no tool is needed.
"""

import base64
import json
import secrets
import ssl
import urllib.request
from pathlib import Path

from cluster.build import binary
from cluster.kubeconfig import kubeconfig
from cluster.process import Process, Server, fetch, free_port

EC_KEY_P256 = ("30310201010420", "a00a06082a8648ce3d030107")


class ApiServer(Server):
    """Keeps data, address and token over `stop()` and `start()`."""

    def __init__(self, directory: Path) -> None:
        self.url = f"https://127.0.0.1:{free_port()}"
        self.token = secrets.token_hex(16)
        self.ca_file = directory / "certificates" / "apiserver.crt"
        self.kubeconfig = directory / "kubeconfig"
        self._directory = directory
        self._etcd_url = f"http://127.0.0.1:{free_port()}"
        self._etcd = Process(self._etcd_command(), directory / "etcd.log")
        self._server = Process(self._server_command(), directory / "kube-apiserver.log")

    def start(self) -> None:
        self._write_credentials()
        self._etcd.start(lambda: fetch(f"{self._etcd_url}/readyz"))
        self._server.start(lambda: self.request("GET", "/readyz"))
        self.kubeconfig.write_text(kubeconfig(self.url, self.ca_file.read_bytes(), self.token))

    def stop(self) -> None:
        self._server.stop()
        self._etcd.stop()

    def request(self, method: str, path: str, body: object = None) -> bytes:
        """Ask the API server as an administrator; `body` is sent as JSON."""
        request = urllib.request.Request(
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
            method=method,
        )
        return fetch(request, ssl.create_default_context(cafile=str(self.ca_file)))

    def _etcd_command(self) -> list[str]:
        peer = f"http://127.0.0.1:{free_port()}"
        return [
            str(binary("etcd")),
            f"--data-dir={self._directory / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={self._etcd_url}",
            f"--advertise-client-urls={self._etcd_url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        ]

    def _server_command(self) -> list[str]:
        return [
            str(binary("kube-apiserver")),
            f"--etcd-servers={self._etcd_url}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.url.rpartition(':')[2]}",
            f"--cert-dir={self.ca_file.parent}",
            f"--token-auth-file={self._tokens}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={self._signing_key}",
            f"--service-account-key-file={self._signing_key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--endpoint-reconciler-type=none",
            "--allow-privileged=true",
        ]

    @property
    def _tokens(self) -> Path:
        return self._directory / "tokens.csv"

    @property
    def _signing_key(self) -> Path:
        return self._directory / "service-accounts.key"

    def _write_credentials(self) -> None:
        self._tokens.write_text(f'{self.token},admin,admin,"system:masters"\n')
        if not self._signing_key.exists():
            self._signing_key.write_text(_elliptic_curve_key())


def _elliptic_curve_key() -> str:
    """A P-256 private key as RFC 5915 writes it: any number below the curve's order will do."""
    before, after = EC_KEY_P256
    scalar = bytes(1) + secrets.token_bytes(31)
    encoded = base64.b64encode(bytes.fromhex(before) + scalar + bytes.fromhex(after)).decode()
    return f"-----BEGIN EC PRIVATE KEY-----\n{encoded}\n-----END EC PRIVATE KEY-----\n"
