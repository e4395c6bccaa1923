"""What happens to the operator: to its process, its clock, its rights and its identity."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from chaos import clock
from chaos.hands import Hands, stubborn
from chaos.means import A_WHILE, ONE_AT_A_TIME, Disturbance
from chart.helm import OPERATOR
from e2e.installation import NAMESPACE
from e2e.tenant import Object

DEPLOYMENT: Final = f"deployment/{OPERATOR}"
RIGHTS: Final = f"clusterrolebinding/{NAMESPACE}:{OPERATOR}"
ACCOUNT: Final = f"serviceaccount/{OPERATOR}"
ROLLED_OUT_WITHIN: Final = "--timeout=90s"
SERVERS_OWN: Final = ("uid", "resourceVersion", "creationTimestamp", "managedFields")


def kill(hands: Hands) -> None:
    hands.keep_logs()
    _end(hands, hands.installation.operator_pod())


def with_clock(skew: str) -> Disturbance:
    """It runs for a while with a clock that is wrong by so much, as of a node that has lost its time."""

    def disturb(hands: Hands) -> None:
        with ONE_AT_A_TIME, _skewed(hands, skew):
            time.sleep(A_WHILE)

    return disturb


def without_rights(hands: Hands) -> None:
    """The API server refuses it all that it asks for, until its rights are given back."""
    with ONE_AT_A_TIME, away(hands, RIGHTS):
        time.sleep(A_WHILE)


def without_account(hands: Hands) -> None:
    """Its token is refused: its account is another one of the same name, with which it is started again."""
    with ONE_AT_A_TIME:
        pod = stubborn(hands.installation.operator_pod)
        try:
            with away(hands, ACCOUNT):
                time.sleep(A_WHILE)
            time.sleep(A_WHILE)
        finally:
            hands.keep_logs()
            _end(hands, pod)
            stubborn(hands.installation.operator_pod)


def _end(hands: Hands, pod: str) -> None:
    hands.system("delete", "pod", pod, f"--namespace={NAMESPACE}", "--grace-period=0", "--force")


@contextmanager
def _skewed(hands: Hands, skew: str) -> Iterator[None]:
    hands.keep_logs()
    hands.install(clock.config_map(NAMESPACE))
    before = hands.read(DEPLOYMENT, NAMESPACE)["spec"]["template"]
    start(hands, clock.with_skew(before, skew))
    try:
        yield
    finally:
        hands.keep_logs()
        start(hands, before)
        stubborn(hands.installation.operator_pod)


def start(hands: Hands, template: Object) -> None:
    """Anew, from this template. One that does not get ready within bounds is disturbance enough."""
    hands.patch(DEPLOYMENT, NAMESPACE, "/spec/template", template)
    with suppress(OSError):
        hands.installation.kubectl(
            "rollout", "status", DEPLOYMENT, f"--namespace={NAMESPACE}", ROLLED_OUT_WITHIN
        )


@contextmanager
def away(hands: Hands, what: str) -> Iterator[None]:
    """Something of the operator's is deleted, and made again after the block as it was."""
    before = hands.read(what, NAMESPACE)
    metadata = {k: v for k, v in before["metadata"].items() if k not in SERVERS_OWN}
    hands.system("delete", what, f"--namespace={NAMESPACE}")
    try:
        yield
    finally:
        hands.install(before | {"metadata": metadata})
