"""The programs that make a cluster: how each is started, and how it says that it is well."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster import network
from cluster.build import binary
from cluster.layout import API_SERVER, NODE_NAME, Layout
from cluster.sources import SOURCES

ETCD = "http://127.0.0.1:2379"


@dataclass(frozen=True)
class Component:
    """`health` is a URL that answers when the component does its work; containerd has none. `program` is
    its path, where the name does not say what runs."""

    name: str
    flags: list[str]
    health: str = ""
    program: str = ""

    def command(self) -> list[str]:
        known = str(binary(self.name)) if self.name in SOURCES else self.name
        return [self.program or known, *self.flags]


def every(layout: Layout) -> Iterator[Component]:
    """All of them, in the order in which they are started."""
    yield from (containerd(layout), etcd(layout), apiserver(layout))
    yield from followers(layout)


def containerd(layout: Layout) -> Component:
    return Component("containerd", [f"--config={layout.config / 'containerd.toml'}"])


def etcd(layout: Layout) -> Component:
    flags = [
        f"--data-dir={layout.root / 'etcd'}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        f"--listen-metrics-urls=http://{network.NODE}:2381",
    ]
    return Component("etcd", flags, f"http://{network.NODE}:2381/readyz")


def apiserver(layout: Layout) -> Component:
    pki = layout.certificates
    flags = [
        f"--etcd-servers={ETCD}",
        f"--advertise-address={network.NODE}",
        f"--service-cluster-ip-range={network.SERVICES}",
        *_serving(pki),
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--token-auth-file={layout.tokens}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        f"--service-account-key-file={pki / 'service-accounts.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
    ]
    return Component("kube-apiserver", flags, f"{API_SERVER}/readyz")


def followers(layout: Layout) -> Iterator[Component]:
    """What needs nothing but the API server."""
    yield _kubelet(layout)
    yield _controller_manager(layout)
    yield Component(
        "kube-scheduler",
        [_kubeconfig(layout, "kube-scheduler"), "--leader-elect=false", *_serving(layout.certificates)],
        f"https://{network.NODE}:10259/readyz",
    )
    yield Component(
        "kube-proxy",
        [f"--config={layout.config / 'kube-proxy.yaml'}"],
        f"http://{network.NODE}:10256/livez",
    )
    yield Component(
        "coredns", ["-conf", str(layout.config / "Corefile")], f"http://{network.NODE}:8181/ready"
    )


def _controller_manager(layout: Layout) -> Component:
    pki = layout.certificates
    flags = [
        _kubeconfig(layout, "kube-controller-manager"),
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        *_serving(pki),
        f"--service-account-private-key-file={pki / 'service-accounts.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
    ]
    return Component("kube-controller-manager", flags, f"https://{network.NODE}:10257/healthz")


def _kubelet(layout: Layout) -> Component:
    flags = [
        _kubeconfig(layout, "kubelet"),
        f"--config={layout.config / 'kubelet.yaml'}",
        f"--root-dir={layout.root / 'kubelet'}",
        f"--hostname-override={NODE_NAME}",
    ]
    return Component("kubelet", flags, f"http://{network.NODE}:10248/healthz")


def _kubeconfig(layout: Layout, component: str) -> str:
    return f"--kubeconfig={layout.kubeconfig_of(component)}"


def _serving(pki: Path) -> list[str]:
    return [f"--tls-cert-file={pki / 'server.crt'}", f"--tls-private-key-file={pki / 'server.key'}"]
