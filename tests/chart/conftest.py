"""An API server for the tests of one file, which install what a cluster has once."""

from collections.abc import Iterator

import pytest

from chart.site import STRANGER, Site
from cluster.apiserver import ApiServer


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ApiServer(tmp_path_factory.mktemp("site")) as server:
        found = Site(server)
        namespace, account = STRANGER
        found.kubectl("create", "serviceaccount", account, f"--namespace={namespace}")
        yield found
