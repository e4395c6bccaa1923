"""A tenant whose hands do not tire: what can't be done while the cluster is away is done once it is back."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from cluster.process import CommandError
from cluster.single_node import SingleNode
from e2e.installation import NAMESPACE, Installation
from e2e.tenant import Object, Store, Tenant

PATIENCE: Final = 90.0
CHANGES: Final[Mapping[str, Any]] = {
    "training": {"maxSteps": 600, "evaluation": {"everySteps": 300}, "checkpoint": {"every": 50}}
}
"""So that a training takes seconds, and has checkpoints to go on from."""
T = TypeVar("T")


class Hands(Tenant):
    """logs: what operators that are gone have said, of all tenants."""

    def __init__(self, installation: Installation, store: Store, logs: list[str]) -> None:
        self._logs = logs
        stubborn(lambda: Tenant.__init__(self, installation, store))

    @property
    def node(self) -> SingleNode:
        return self.installation.cluster.node

    def apply_run(self) -> None:
        self.apply(changes=CHANGES)

    def kubectl(self, *arguments: str) -> str:
        return stubborn(lambda: super(Hands, self).kubectl(*arguments))

    def system(self, *arguments: str) -> str:
        """`kubectl` outside of the tenant's namespace."""
        return stubborn(lambda: self.installation.kubectl(*arguments))

    def apply_object(self, made: Object) -> str:
        return stubborn(lambda: super(Hands, self).apply_object(made))

    def look(self, path: str) -> Object:
        return stubborn(lambda: self.installation.cluster.client.get(path))

    def keep_log(self) -> None:
        """What the operator has said by now, before it is gone."""
        pod = stubborn(self.installation.operator_pod)
        self._logs.append(stubborn(lambda: operator_log(self.installation, pod)))


def operator_log(installation: Installation, pod: str) -> str:
    return installation.cluster.client.log(NAMESPACE, pod)


def stubborn(action: Callable[[], T]) -> T:
    """What the action returns, once it can be done."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return action()
        except (OSError, BotoCoreError, ClientError) as error:
            gone = isinstance(error, CommandError) and "NotFound" in str(error)
            if gone or time.monotonic() > deadline:
                raise
        time.sleep(0.5)
