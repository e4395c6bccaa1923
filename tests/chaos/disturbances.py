"""What is done to a run, or to all that there is: each mends again what it did."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from chaos.hands import Hands
from cluster.client import ApiError
from cluster.single_node import SingleNode
from cluster.storage import NAMESPACE as STORAGE
from cluster.storage import PORT
from e2e.installation import NAMESPACE
from lorafinetune.core.observed import STAGE_LABEL

A_WHILE: Final = 8.0
APISERVER_PORT: Final = 6443
ONE_AT_A_TIME: Final = threading.Lock()
"""Of what strikes all runs: two together could leave what neither can mend."""


class Missed(Exception):  # noqa: N818 - no error: the run had nothing that could be struck
    """Nothing was there to be disturbed."""


def kill_operator(hands: Hands) -> None:
    hands.keep_log()
    pod = hands.installation.operator_pod()
    hands.system("delete", "pod", pod, f"--namespace={NAMESPACE}", "--grace-period=0", "--force")


def delete_pod(hands: Hands, *options: str) -> None:
    hands.kubectl("delete", "pod", _pod(hands), "--wait=false", *options)


def delete_pod_without_grace(hands: Hands) -> None:
    delete_pod(hands, "--grace-period=0", "--force")


def evict_pod(hands: Hands) -> None:
    pod = _pod(hands)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    path = f"/api/v1/namespaces/{hands.namespace}/pods/{pod}/eviction"
    with suppress(ApiError):
        hands.installation.cluster.client.request("POST", path, eviction)


def delete_job(cascade: str) -> Callable[[Hands], None]:
    def delete(hands: Hands) -> None:
        job = _pod_object(hands)["metadata"]["labels"]["job-name"]
        hands.kubectl("delete", "job", job, f"--cascade={cascade}", "--wait=false")

    return delete


def wrong_secret(hands: Hands) -> None:
    hands.give_secret(AWS_SECRET_ACCESS_KEY="wrong")
    time.sleep(A_WHILE)
    hands.give_secret()


def no_secret(hands: Hands) -> None:
    hands.kubectl("delete", "secret", "s3")
    time.sleep(A_WHILE)
    hands.give_secret()


def apply_again(hands: Hands) -> None:
    hands.kubectl("delete", "lorafinetune", "tune", "--wait=true")
    hands.apply_run()


def suspend_and_resume(hands: Hands) -> None:
    hands.edit("tune", {"suspend": True})
    time.sleep(A_WHILE)
    hands.edit("tune", {"suspend": False})


def edit_and_edit_back(hands: Hands) -> None:
    before = hands.get()["spec"]["training"]["learningRate"]
    hands.edit("tune", {"training": {"learningRate": "5e-4"}})
    time.sleep(A_WHILE / 4)
    hands.edit("tune", {"training": {"learningRate": before}})


def killed(component: str, seconds: float = 0) -> Callable[[Hands], None]:
    def kill(hands: Hands) -> None:
        with ONE_AT_A_TIME, hands.node.without(component):
            time.sleep(seconds)

    return kill


def silent(program: str) -> Callable[[Hands], None]:
    def silence(hands: Hands) -> None:
        with ONE_AT_A_TIME, hands.node.silent(program):
            time.sleep(A_WHILE)

    return silence


def no_way_to_store(hands: Hands) -> None:
    pods = hands.look(f"/api/v1/namespaces/{STORAGE}/pods")["items"]
    rules = [("FORWARD", "-d", pod["status"]["podIP"], PORT) for pod in pods]
    _cut(hands.node, rules)


def cut_off_operator(hands: Hands) -> None:
    pods = hands.look(f"/api/v1/namespaces/{NAMESPACE}/pods")["items"]
    addresses = [pod["status"]["podIP"] for pod in pods if pod["status"].get("podIP")]
    _cut(hands.node, [("INPUT", "-s", address, APISERVER_PORT) for address in addresses])


def drain(hands: Hands) -> None:
    """The stages alone: what the store holds goes with its pod."""
    name = hands.look("/api/v1/nodes")["items"][0]["metadata"]["name"]
    chosen = ("--delete-emptydir-data", f"--pod-selector={STAGE_LABEL}", "--timeout=60s")
    with ONE_AT_A_TIME:
        try:
            hands.system("drain", name, *chosen)
        finally:
            hands.system("uncordon", name)


DISTURBANCES: Final[Mapping[str, Callable[[Hands], None]]] = {
    "the operator killed": kill_operator,
    "a pod deleted": delete_pod,
    "a pod deleted without grace": delete_pod_without_grace,
    "a pod evicted": evict_pod,
    "a Job deleted in the background": delete_job("background"),
    "a Job deleted in the foreground": delete_job("foreground"),
    "a Job deleted, its pods orphaned": delete_job("orphan"),
    "the Secret wrong for a while": wrong_secret,
    "the Secret away for a while": no_secret,
    "deleted and applied again": apply_again,
    "suspended and resumed": suspend_and_resume,
    "edited and edited back": edit_and_edit_back,
    "the kubelet killed": killed("kubelet", seconds=2),
    "the kubelet silent for a while": silent("kubelet"),
    "containerd killed": killed("containerd"),
    "the API server killed": killed("kube-apiserver", seconds=2),
    "the API server silent for a while": silent("kube-apiserver"),
    "etcd killed": killed("etcd"),
    "the store silent for a while": silent("versitygw"),
    "no way to the store for a while": no_way_to_store,
    "the operator cut off for a while": cut_off_operator,
    "the node drained": drain,
}


def _pod(hands: Hands) -> str:
    return str(_pod_object(hands)["metadata"]["name"])


def _pod_object(hands: Hands) -> dict[str, Any]:
    """A pod of the run that has not ended: the one that is, or the next."""
    deadline = time.monotonic() + A_WHILE
    while time.monotonic() < deadline:
        for pod in hands.pods():
            alive = pod["status"].get("phase") in ("Pending", "Running")
            if alive and not pod["metadata"].get("deletionTimestamp"):
                return dict(pod)
        time.sleep(0.2)
    raise Missed


def _cut(node: SingleNode, rules: list[tuple[str, str, str, int]]) -> None:
    with ONE_AT_A_TIME, _dropped(node, rules):
        time.sleep(A_WHILE)


@contextmanager
def _dropped(node: SingleNode, rules: list[tuple[str, str, str, int]]) -> Iterator[None]:
    def change(action: str) -> None:
        for chain, end, address, port in rules:
            match = (end, address, "-p", "tcp", "--dport", str(port))
            node.run("iptables", "-w", action, chain, *match, "-j", "DROP")

    change("-I")
    try:
        yield
    finally:
        change("-D")
