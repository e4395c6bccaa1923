"""Two who can't hear each other for a while: in one direction, or in the other.

Where what is asked arrives and the answer does not, the asker can't know whether it was done.
"""

import time
from collections.abc import Callable, Iterator

from chaos.depot import PORT as STORE
from chaos.hands import Hands
from chaos.hub import PORT as HUB
from chaos.means import A_WHILE, ONE_AT_A_TIME, Disturbance, Missed, wait_at_most
from chaos.ways import Way, back, cut, to
from cluster import network
from cluster.layout import API_PORT, KUBELETS_WAY
from e2e.installation import NAMESPACE

PROGRESS = 8443
KUBELET = 10250
ASKED_WITHIN = 20.0
Ways = Callable[[Hands], Iterator[Way]]


def without_a_way(ways: Ways) -> Disturbance:
    """Where nobody went that way, nobody was disturbed."""

    def disturb(hands: Hands) -> None:
        with ONE_AT_A_TIME, cut(hands.node.run, list(ways(hands))) as packets:
            time.sleep(A_WHILE)
            if not packets():
                raise Missed

    return disturb


def while_asked(ways: Ways) -> Disturbance:
    """For a while from the moment at which somebody goes that way, which is seldom gone."""

    def disturb(hands: Hands) -> None:
        with ONE_AT_A_TIME, cut(hands.node.run, list(ways(hands))) as packets:
            if not wait_at_most(ASKED_WITHIN, lambda: packets() > 0):
                raise Missed
            time.sleep(A_WHILE)

    return disturb


def to_hub(_: Hands) -> Iterator[Way]:
    yield to("INPUT", HUB, "-s", network.PODS)


def from_hub(_: Hands) -> Iterator[Way]:
    yield back("OUTPUT", HUB, "-d", network.PODS)


def to_store(_: Hands) -> Iterator[Way]:
    yield to("INPUT", STORE, "-s", network.PODS)


def from_store(_: Hands) -> Iterator[Way]:
    yield back("OUTPUT", STORE, "-d", network.PODS)


def from_operator_to_apiserver(hands: Hands) -> Iterator[Way]:
    return (to("INPUT", API_PORT, "-s", address) for address in operators(hands))


def from_apiserver_to_operator(hands: Hands) -> Iterator[Way]:
    return (back("OUTPUT", API_PORT, "-d", address) for address in operators(hands))


def to_progress(hands: Hands) -> Iterator[Way]:
    return (to("FORWARD", PROGRESS, "-d", address) for address in operators(hands))


def from_progress(hands: Hands) -> Iterator[Way]:
    return (back("FORWARD", PROGRESS, "-s", address) for address in operators(hands))


def from_kubelet_to_apiserver(_: Hands) -> Iterator[Way]:
    yield to("INPUT", API_PORT, "-d", KUBELETS_WAY)


def from_apiserver_to_kubelet(_: Hands) -> Iterator[Way]:
    """The answers; and what the API server asks the kubelet for, such as logs."""
    yield back("INPUT", API_PORT, "-s", KUBELETS_WAY)
    yield to("INPUT", KUBELET)


def operators(hands: Hands) -> list[str]:
    """Addresses of the operator's pods."""
    pods = hands.look(f"/api/v1/namespaces/{NAMESPACE}/pods")["items"]
    return [str(pod["status"]["podIP"]) for pod in pods if pod["status"].get("podIP")]
