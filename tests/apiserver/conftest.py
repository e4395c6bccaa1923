"""The API server with our CRD in it."""

import time

import pytest

from apiserver.kube import CRDS, ask
from cluster.apiserver import ApiServer
from lorafinetune.api.crd import crd

WITHIN = 30


@pytest.fixture(scope="session")
def served(apiserver: ApiServer) -> ApiServer:
    """Serves LoRAFineTune."""
    answer = ask(apiserver, "POST", f"{CRDS}?fieldValidation=Strict", crd())
    assert answer.accepted, answer.message
    deadline = time.monotonic() + WITHIN
    while "Established" not in established(apiserver):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return apiserver


def established(server: ApiServer) -> set[str]:
    """The conditions of our CRD that are true."""
    body = ask(server, "GET", f"{CRDS}/{crd()['metadata']['name']}").body
    conditions = body["status"]["conditions"] or []
    return {condition["type"] for condition in conditions if condition["status"] == "True"}
