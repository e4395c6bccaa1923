"""Where a cluster keeps its files: everything below one folder, which goes when the cluster does.

Images stay, in containerd's own store beside that folder: they are a cache, slow to fill.
"""

import csv
import secrets
from pathlib import Path

from cluster import network
from cluster.build import cache
from cluster.certificates import Authority, new_key
from cluster.kubeconfig import kubeconfig

API_PORT = 6443
API_SERVER = f"https://{network.NODE}:{API_PORT}"
KUBELETS_WAY = "127.0.0.2"
"""An address of the API server that nobody has but the kubelet, so that its way there can be cut alone."""
API_SERVERS = {"kubelet": f"https://{KUBELETS_WAY}:{API_PORT}"}
"""At which address a component asks for the API server, where it is not `API_SERVER`."""
NODE_NAME = "node"
SERVER_NAMES = (
    network.NODE,
    network.API_SERVICE,
    "127.0.0.1",
    KUBELETS_WAY,
    "localhost",
    NODE_NAME,
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
USERS = {
    "admin": ("admin", "system:masters"),
    "coredns": ("system:coredns", ""),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-proxy": ("system:kube-proxy", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
}


class Layout:
    """The folder of one cluster."""

    def __init__(self) -> None:
        self.root = cache() / "cluster"
        self.images = cache() / "containerd"
        self.kubeconfig = self.root / "kubeconfig"
        self.programs = self.root / "bin"
        self.config = self.root / "config"
        self.logs = self.root / "log"
        self.certificates = self.root / "certificates"
        self.tokens = self.root / "tokens.csv"
        self.way_out = self.root / "way-out.json"

    def create(self) -> None:
        for folder in (self.programs, self.config, self.logs, self.certificates, self.images):
            folder.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        self._issue_certificates()
        self._issue_tokens()

    def kubeconfig_of(self, component: str) -> Path:
        return self.config / f"{component}.kubeconfig"

    def _issue_certificates(self) -> None:
        authority = Authority(self.certificates)
        authority.issue("server", hosts=SERVER_NAMES)
        authority.issue("kubelet-client", group="system:masters")
        new_key(self.certificates / "service-accounts.key")

    def _issue_tokens(self) -> None:
        authority = (self.certificates / "ca.crt").read_bytes()
        tokens = {component: secrets.token_hex(16) for component in USERS}
        with self.tokens.open("w") as file:
            rows = csv.writer(file)
            rows.writerows([tokens[name], user, user, group] for name, (user, group) in USERS.items())
        for component, token in tokens.items():
            address = API_SERVERS.get(component, API_SERVER)
            self.kubeconfig_of(component).write_text(kubeconfig(address, authority, token))
        self.kubeconfig_of("admin").rename(self.kubeconfig)
