"""The configuration files of the components of a cluster, each as its program reads it."""

import json

import yaml

from cluster import network
from cluster.layout import NODE_NAME, Layout
from cluster.packages import CNI_PLUGINS

SOCKET = "/run/containerd/containerd.sock"
CONTAINERD = """
version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
disable_apparmor = true
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{config}/cni"
"""
COREFILE = """
.:53 {{
    bind {node}
    errors
    ready {node}:8181
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
        ttl 5
    }}
    {forward}
    cache 5
    loadbalance
}}
"""


def write(layout: Layout, group: str, pause: str) -> None:
    """`group` is the control group to put pods in, `pause` the image that holds their namespaces."""
    (layout.config / "cni").mkdir()
    (layout.config / "cni" / "pods.conflist").write_text(json.dumps(_cni()))
    (layout.config / "containerd.toml").write_text(_containerd(layout, pause))
    (layout.config / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(layout, group)))
    (layout.config / "kube-proxy.yaml").write_text(yaml.safe_dump(_kube_proxy(layout)))
    (layout.config / "Corefile").write_text(_corefile(layout))
    servers = [f"nameserver {server}\n" for server in network.name_servers()]
    (layout.config / "resolv.conf").write_text("".join(servers))


def _cni() -> dict[str, object]:
    """Each pod has a cable of its own to the node: unlike a bridge, that needs no kernel module."""
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni",
        "ranges": [[{"subnet": network.PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": addresses}]}


def _containerd(layout: Layout, pause: str) -> str:
    return CONTAINERD.format(
        root=layout.images, socket=SOCKET, pause=pause, plugins=CNI_PLUGINS, config=layout.config
    )


def _kubelet(layout: Layout, group: str) -> dict[str, object]:
    """Images are never collected: nothing could pull them again. How full volumes are is soon known."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.certificates / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": group,
        "clusterDNS": [network.DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "500Mi",
            "imagefs.available": "500Mi",
        },
        "failSwapOn": False,
        "healthzBindAddress": network.NODE,
        "imageGCHighThresholdPercent": 100,
        "podLogsDir": "/var/log/pods",
        "resolvConf": str(layout.config / "resolv.conf"),
        "tlsCertFile": str(layout.certificates / "server.crt"),
        "tlsPrivateKeyFile": str(layout.certificates / "server.key"),
        "volumePluginDir": str(layout.root / "kubelet" / "plugins"),
        "volumeStatsAggPeriod": "10s",
    }


def _kube_proxy(layout: Layout) -> dict[str, object]:
    """Connection tracking keeps the machine's own limits."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(layout.kubeconfig_of("kube-proxy"))},
        "clusterCIDR": network.PODS,
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "healthzBindAddress": f"{network.NODE}:10256",
        "hostnameOverride": NODE_NAME,
        "mode": "iptables",
    }


def _corefile(layout: Layout) -> str:
    servers = " ".join(network.name_servers())
    return COREFILE.format(
        node=network.NODE,
        kubeconfig=layout.kubeconfig_of("coredns"),
        forward=f"forward . {servers}" if servers else "",
    )
