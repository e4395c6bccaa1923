"""The servers as pytest fixtures: started when the first test asks, one of each per worker.

A test that uses one is marked with its tier, so `-m "not apiserver and not s3 and not e2e"` runs
what needs no server. What is not in the cache is built first, in sight: that can take minutes. The
cluster alone is one for all workers, and all test runs.
"""

import os
from collections.abc import Iterator

import pytest

from cluster import storage, testbed
from cluster.apiserver import ApiServer
from cluster.build import binary
from cluster.controllers import Controllers
from cluster.machine import hindrance
from cluster.s3server import S3Endpoint, S3Server
from cluster.testbed import Cluster

MARKS = {"apiserver": "apiserver", "s3_server": "s3", "cluster": "e2e"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in MARKS.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(MARKS[fixture])


@pytest.fixture(scope="session")
def apiserver(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    _build(pytestconfig, "etcd", "kube-apiserver")
    with ApiServer(tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@pytest.fixture(scope="session")
def controllers(
    pytestconfig: pytest.Config, apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Controllers]:
    """What acts on Jobs in that API server."""
    _build(pytestconfig, "kube-controller-manager")
    with Controllers(tmp_path_factory.mktemp("controllers"), apiserver) as running:
        yield running


@pytest.fixture(scope="session")
def s3_server(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    _build(pytestconfig, "versitygw")
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """The cluster that KUBECONFIG names, or one of our own where this machine can have one."""
    if not os.environ.get("KUBECONFIG") and (why := hindrance()):
        pytest.fail(f"no cluster can be made here ({why}); KUBECONFIG may name one")
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with testbed.in_use(capture.global_and_fixture_disabled) as found:
        yield found


@pytest.fixture(scope="session")
def cluster_storage(cluster: Cluster) -> S3Endpoint:
    """The S3 service in the cluster, which pods reach at `cluster.storage.INSIDE`."""
    return storage.deploy(cluster)


def _build(config: pytest.Config, *names: str) -> None:
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        for name in names:
            binary(name)
