"""The product installed on a real cluster, and tenants who use it."""

import secrets
from collections.abc import Iterator

import pytest

from cluster.process import ServerError
from cluster.s3server import S3Endpoint
from cluster.testbed import Cluster
from e2e.installation import DEFINITION, Installation
from e2e.tenant import Store, Tenant


@pytest.fixture(scope="session")
def installation(cluster: Cluster) -> Iterator[Installation]:
    """The operator, installed by its chart from the images that users build."""
    made = Installation(cluster)
    if not cluster.is_ours and made.is_there():
        raise ServerError(f"the cluster that KUBECONFIG names has {DEFINITION}, which tests would remove")
    made.install()
    yield made
    made.uninstall()


@pytest.fixture(scope="session")
def store(cluster_storage: S3Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A bucket with a tiny model and a few rows."""
    made = Store(cluster_storage, f"e2e-{secrets.token_hex(4)}")
    made.fill(tmp_path_factory.mktemp("samples"))
    yield made
    made.empty()


@pytest.fixture
def tenant(installation: Installation, store: Store) -> Iterator[Tenant]:
    """A namespace of its own, in which pods must be restricted, with the Secret of the store."""
    made = Tenant(installation, store)
    made.give_secret()
    yield made
    made.leave()
