"""What happens to the cluster below all runs: to its programs and to its node."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from chaos.hands import Hands, stubborn
from chaos.means import ONE_AT_A_TIME, Disturbance, for_a_while, wait_at_most
from cluster.layout import NODE_NAME
from lorafinetune.core.observed import STAGE_LABEL

CLEARED_WITHIN: Final = 180.0
"""The cluster waits 40 s for a node that is gone, and looks every 20 s."""
READY_WITHIN: Final = 120.0


def killed(component: str, seconds: float = 0) -> Disturbance:
    def kill(hands: Hands) -> None:
        with ONE_AT_A_TIME, hands.node.without(component):
            time.sleep(seconds)

    return kill


def silent(program: str) -> Disturbance:
    return for_a_while(lambda hands: hands.node.silent(program))


def drain(hands: Hands) -> None:
    """The stages alone, for which somebody waits."""
    chosen = ("--delete-emptydir-data", f"--pod-selector={STAGE_LABEL}", "--timeout=60s")
    with ONE_AT_A_TIME, cordoned(hands):
        hands.system("drain", NODE_NAME, *chosen)


@contextmanager
def cordoned(hands: Hands) -> Iterator[None]:
    """No pod is put on the node while the block runs."""
    hands.system("cordon", NODE_NAME)
    try:
        yield
    finally:
        hands.system("uncordon", NODE_NAME)


def lose_node(hands: Hands) -> None:
    """The machine is gone with all that ran on it, and its Node is deleted, as a cloud does. Once its pods
    are removed a new machine comes: of the same name, but another Node."""
    hands.keep_logs()
    with ONE_AT_A_TIME:
        with hands.node.lost():
            hands.system("delete", "node", NODE_NAME, "--wait=false")
            cleared = wait_at_most(CLEARED_WITHIN, lambda: not _pods_on_node(hands))
        ready = wait_at_most(READY_WITHIN, lambda: _is_ready(hands))
        stubborn(hands.installation.operator_pod)
    if not (cleared and ready):
        raise TimeoutError(f"the lost node was cleared of pods: {cleared}, and its heir is ready: {ready}")


def _is_ready(hands: Hands) -> bool:
    """Raises OSError otherwise."""
    hands.node.check_ready()
    return True


def _pods_on_node(hands: Hands) -> list[str]:
    pods = hands.look("/api/v1/pods")["items"]
    return [pod["metadata"]["name"] for pod in pods if pod["spec"].get("nodeName") == NODE_NAME]
