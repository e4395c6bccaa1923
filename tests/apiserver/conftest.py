"""The API server with our CRD in it."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from apiserver.identity import operator_kubeconfig
from apiserver.kube import serve_resource
from apiserver.operating import Namespace, Operator
from cluster.apiserver import ApiServer
from cluster.controllers import Controllers

SHARED = "runs"
"""The namespace of the operator that tests share."""


@pytest.fixture(scope="session")
def served(apiserver: ApiServer) -> ApiServer:
    """Serves LoRAFineTune."""
    serve_resource(apiserver)
    return apiserver


@pytest.fixture(scope="session")
def identity(served: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kubeconfig of an operator."""
    return operator_kubeconfig(served, tmp_path_factory.mktemp("identity"))


@pytest.fixture(scope="session")
def operator(
    identity: Path, controllers: Controllers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """An operator that serves the namespace of `runs`."""
    running = Operator(identity, tmp_path_factory.mktemp("operator") / "operator.log", SHARED)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def runs(served: ApiServer, operator: Operator) -> Namespace:
    """The namespace in which the operator acts."""
    return Namespace(served, SHARED)


@pytest.fixture
def own_namespace(served: ApiServer, controllers: Controllers) -> Namespace:
    """A namespace that no operator serves yet."""
    return Namespace(served, f"own-{secrets.token_hex(4)}")


@pytest.fixture
def own_operator(identity: Path, own_namespace: Namespace, tmp_path: Path) -> Iterator[Operator]:
    """An operator of that namespace, which the test starts."""
    made = Operator(identity, tmp_path / "operator.log", own_namespace.name)
    yield made
    made.stop()
