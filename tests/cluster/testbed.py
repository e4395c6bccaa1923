"""The cluster that tests run on: the one that KUBECONFIG names, or one of our own.

Our own is shared by all test runs of a machine. The first that needs it brings it up and the last
ends it, unless somebody wanted it with `make cluster-up`: then it stays.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from cluster import images, packages
from cluster.build import binary, cache
from cluster.client import Client
from cluster.process import Process, ServerError, fetch, free_port
from cluster.single_node import SingleNode

REGISTRY = "LORAFINETUNE_REGISTRY"


class Cluster:
    """A cluster that is up. `own` is None where somebody else runs it."""

    def __init__(self, kubeconfig: Path, own: SingleNode | None, leave: ExitStack) -> None:
        self.kubeconfig = kubeconfig
        self.client = Client(kubeconfig)
        self._own = own
        self._leave = leave

    @property
    def is_ours(self) -> bool:
        """Whether `make cluster-up` made it."""
        return self._own is not None

    @contextmanager
    def wanted_no_longer_than_before(self) -> Iterator[None]:
        """A `make cluster-up` in the block does not make our own cluster stay."""
        temporary = self._own is not None and self._own.temporary.exists()
        yield
        if self._own is not None and temporary:
            self._own.temporary.touch()

    def offer(self, reference: str) -> str:
        """See that pods can run the image, and return the name that they know it by."""
        if self._own is None:
            there = reference.replace(images.LOCAL, _registry(), 1)
            images.push(reference, there)
            return there
        self._own.offer(reference)
        return reference

    def offer_as(self, reference: str, other: str) -> None:
        """See that pods can run the image by a name of our choice, where they look for names like it."""
        if self._own is None:
            images.push(reference, other)
            return
        self._own.offer(reference)
        self._own.alias(reference, other)

    def address(self, namespace: str, service: str, port: int) -> str:
        """`host:port` at which the tests themselves reach a Service."""
        if self._own is None:
            return self._forward(namespace, service, port)
        found = self.client.get(f"/api/v1/namespaces/{namespace}/services/{service}")
        return f"{found['spec']['clusterIP']}:{port}"

    @property
    def node(self) -> SingleNode:
        """Our own, with which anything may be done."""
        assert self._own is not None, "somebody else's nodes are left alone"
        return self._own

    def silent_node(self) -> AbstractContextManager[None]:
        """In the block nobody hears of our own node, whose containers run on."""
        return self.node.silent()

    def _forward(self, namespace: str, service: str, port: int) -> str:
        here = free_port()
        kubectl = [str(binary("kubectl")), f"--kubeconfig={self.kubeconfig}", f"--namespace={namespace}"]
        command = [*kubectl, "port-forward", f"service/{service}", f"{here}:{port}"]
        folder = self._leave.enter_context(TemporaryDirectory())
        process = Process(command, Path(folder, "port-forward.log"))
        self._leave.callback(process.stop)
        process.start(lambda: fetch(f"http://127.0.0.1:{here}/health"))
        return f"127.0.0.1:{here}"


@contextmanager
def in_use(in_sight: Callable[[], AbstractContextManager[None]] = nullcontext) -> Iterator[Cluster]:
    """The cluster to test on, for as long as the block runs. What it takes is told `in_sight`."""
    with ExitStack() as leave:
        kubeconfig = os.environ.get("KUBECONFIG", "")
        own = SingleNode()
        if kubeconfig not in ("", str(own.kubeconfig)):
            packages.become_administrator(packages.NOT_FOR_IMAGES)
            packages.ensure(packages.FOR_IMAGES)
            yield Cluster(Path(kubeconfig), None, leave)
        else:
            leave.enter_context(_shared(own, in_sight))
            yield Cluster(own.kubeconfig, own, leave)


@contextmanager
def nobody_uses_it() -> Iterator[bool]:
    """Whether our own cluster is down and stays down while the block runs."""
    with _users() as users:
        yield _alone(users) and not SingleNode().running()


@contextmanager
def _shared(own: SingleNode, in_sight: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    with _users() as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        if not own.running():
            with in_sight():
                _bring_up()
            own.temporary.touch()
        try:
            yield
        finally:
            if own.temporary.exists() and _alone(users):
                _do("down")


@contextmanager
def _users() -> Iterator[IO[str]]:
    """A file that every test run holds locked for as long as it uses the cluster."""
    folder = cache() / "containerd"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".users").open("w") as file:
        yield file


def _alone(users: IO[str]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _bring_up() -> None:
    try:
        _do("up")
    except ServerError:
        _do("down")
        raise


def _do(what: str) -> None:
    """In a process of its own, which cannot take the tests with it, nor leave them a child."""
    command = [sys.executable, "-m", f"cluster.{what}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        raise ServerError(f"the cluster did not go {what}; it said why above")


def _registry() -> str:
    registry = os.environ.get(REGISTRY, "").rstrip("/")
    if not registry:
        raise ServerError(
            f"KUBECONFIG names a cluster that pulls its images: set {REGISTRY} to a registry"
            " that it pulls from and that you may push to, such as localhost:5000/lorafinetune"
        )
    return registry
