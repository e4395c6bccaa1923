"""A tenant whose hands do not tire: what can't be done while the cluster is away is done once it is back."""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from chaos.depot import Depot
from chaos.subjects import TINY, Changes
from cluster.client import ApiError
from cluster.process import CommandError
from cluster.single_node import SingleNode
from e2e.installation import NAMESPACE, Installation
from e2e.tenant import Object, Store, Tenant

PATIENCE: Final = 90.0
REPLACED_WITHIN: Final = 120.0
NOT_THERE: Final = (400, 404)
KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
T = TypeVar("T")


class Hands(Tenant):
    """logs: what operators that are gone have said, of all tenants. changes: of the spec that it applies. Its
    keys of the store are its own."""

    def __init__(
        self, installation: Installation, store: Store, logs: list[str], changes: Changes = TINY.changes
    ) -> None:
        self._logs = logs
        self._changes = changes
        stubborn(lambda: Tenant.__init__(self, installation, store))
        self.keys = self._new_keys()

    @property
    def node(self) -> SingleNode:
        return self.installation.cluster.node

    @property
    def depot(self) -> Depot:
        """The store, where it is one that may be harmed."""
        assert isinstance(self.store.endpoint, Depot), "somebody else's store is left alone"
        return self.store.endpoint

    def give_secret(self, **wrong: str) -> None:
        super().give_secret(**dict(zip(KEYS, self.keys, strict=True)) | wrong)

    def renew_keys(self) -> None:
        """The Secret has other ones."""
        self.keys = self._new_keys()
        self.give_secret()

    def forget(self, keys: tuple[str, str]) -> None:
        """The store does not know them from now on."""
        stubborn(lambda: self.store.endpoint.delete_user(keys[0]))

    def _new_keys(self) -> tuple[str, str]:
        """Of somebody who may do everything."""
        keys = f"{self.namespace}-{secrets.token_hex(4)}", secrets.token_hex(16)
        stubborn(lambda: self.store.endpoint.create_user(*keys, role="admin"))
        return keys

    def apply_run(self) -> None:
        self.apply(changes=self._changes)

    def kubectl(self, *arguments: str) -> str:
        return stubborn(lambda: super(Hands, self).kubectl(*arguments))

    def system(self, *arguments: str) -> str:
        """`kubectl` outside of the tenant's namespace."""
        return stubborn(lambda: self.installation.kubectl(*arguments))

    def apply_object(self, made: Object) -> str:
        return stubborn(lambda: super(Hands, self).apply_object(made))

    def create(self, made: Object) -> None:
        """Once: it may be there already."""
        path = f"/apis/{made['apiVersion']}/namespaces/{self.namespace}/{made['kind'].lower()}s"
        self.installation.cluster.client.request("POST", path, made)

    def replace(self, kind: str, name: str, make: Callable[[], None]) -> None:
        """Delete something in the foreground, and make it from that moment on until it is another one."""
        old = self._identity(kind, name)
        self.kubectl("delete", kind, name, "--cascade=foreground", "--wait=false")
        deadline = time.monotonic() + REPLACED_WITHIN
        while self._identity(kind, name) in ("", old):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the {kind} {name} goes, and no other can be made")
            with _unless_it_goes():
                make()

    def _identity(self, kind: str, name: str) -> str:
        """Empty where there is none, or it goes."""
        found = self.kubectl("get", kind, name, "--ignore-not-found", "--output=json")
        metadata = json.loads(found)["metadata"] if found else {"deletionTimestamp": ""}
        return "" if "deletionTimestamp" in metadata else str(metadata["uid"])

    def read(self, what: str, namespace: str) -> Object:
        """what: `KIND/NAME`."""
        found: Object = json.loads(self.system("get", what, f"--namespace={namespace}", "--output=json"))
        return found

    def patch(self, what: str, namespace: str, place: str, value: Any) -> None:
        """Replace what is at a place of an object, a JSON pointer."""
        patch = json.dumps([{"op": "replace", "path": place, "value": value}])
        self.system("patch", what, f"--namespace={namespace}", "--type=json", f"--patch={patch}")

    def _read(self, group: str, what: str) -> Object:
        return stubborn(lambda: super(Hands, self)._read(group, what))

    def look(self, path: str) -> Object:
        return stubborn(lambda: self.installation.cluster.client.get(path))

    def install(self, made: Object) -> None:
        """Make something outside of the tenant's namespace, or make what is there like it."""
        stubborn(lambda: self.installation.cluster.client.apply(made))

    def keep_logs(self) -> None:
        """What operators have said by now, before they are gone; those that have not started are silent."""
        for pod in self.look(f"/api/v1/namespaces/{NAMESPACE}/pods")["items"]:
            with suppress(ApiError):
                self._logs.append(stubborn(partial(operator_log, self.installation, pod["metadata"]["name"])))


def operator_log(installation: Installation, pod: str) -> str:
    return installation.cluster.client.log(NAMESPACE, pod)


def stubborn(action: Callable[[], T]) -> T:
    """What the action returns, once it can be done."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return action()
        except (OSError, BotoCoreError, ClientError) as error:
            if _is_not_there(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.5)


@contextmanager
def _unless_it_goes() -> Iterator[None]:
    """What changes an object may find that it has just gone."""
    try:
        yield
    except CommandError as error:
        if not _is_not_there(error):
            raise


def _is_not_there(error: Exception) -> bool:
    """Whether what was asked for is not there, or not so far: no patience helps."""
    if isinstance(error, ApiError):
        return error.code in NOT_THERE
    return isinstance(error, CommandError) and "NotFound" in str(error)
