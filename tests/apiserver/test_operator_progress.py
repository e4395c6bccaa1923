"""From a pod's post to the columns of its resource: with a real token, over TLS."""

import json
import ssl
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest

from apiserver.operating import Namespace, Object, Operator, uid
from cluster.certificates import Authority
from cluster.process import fetch, free_port
from lorafinetune.contract.arguments import PROGRESS_CA_VARIABLE, PROGRESS_URL_VARIABLE
from lorafinetune.core.jobs import PROGRESS_AUDIENCE

HOST = "127.0.0.1"


@pytest.fixture
def listening(identity: Path, own_namespace: Namespace, tmp_path: Path) -> Iterator[Operator]:
    """An operator to which stages can post."""
    Authority(tmp_path).issue("tls", hosts=[HOST])
    address = f"{HOST}:{free_port()}"
    made = Operator(
        identity,
        tmp_path / "operator.log",
        own_namespace.name,
        LORAFINETUNE_PROGRESS_ADDRESS=address,
        LORAFINETUNE_PROGRESS_URL=f"https://{address}/progress",
        LORAFINETUNE_TLS_DIRECTORY=str(tmp_path),
    )
    made.start()
    yield made
    made.stop()


def test_progress_is_shown_soon_and_then_every_five_seconds(
    own_namespace: Namespace, listening: Operator
) -> None:
    own_namespace.apply("telling")
    pod = own_namespace.pod(own_namespace.job("telling", "download"))
    own_namespace.run(pod)
    token = token_of(own_namespace, pod)
    post(pod, token, done=10)
    own_namespace.wait(lambda: own_namespace.status("telling").get("progress") == "10%", within=5)
    writes = listening.metric("lorafinetune_api_calls_total", resource="lorafinetunes/status")
    began = time.monotonic()
    for done in (20, 30, 40):
        post(pod, token, done=done)
        time.sleep(1)
    assert own_namespace.status("telling")["progress"] == "10%"
    own_namespace.wait(lambda: own_namespace.status("telling")["progress"] == "40%", within=10)
    assert time.monotonic() - began > 4
    assert listening.metric("lorafinetune_api_calls_total", resource="lorafinetunes/status") == writes + 1
    assert listening.metric("lorafinetune_progress_age_seconds", namespace=own_namespace.name) > 0
    with pytest.raises(HTTPError, match="401"):
        post(pod, "no token", done=50)
    assert listening.metric("lorafinetune_progress_refused_total", reason="unauthenticated") == 1
    post(pod, token, done=100)
    own_namespace.wait(lambda: own_namespace.status("telling")["progress"] == "99%", within=10)


def token_of(namespace: Namespace, pod: Object) -> str:
    """What the kubelet would mount into the pod."""
    bound = {"kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"], "uid": uid(pod)}
    spec = {"audiences": [PROGRESS_AUDIENCE], "expirationSeconds": 3600, "boundObjectRef": bound}
    path = namespace.path("serviceaccounts", "default") + "/token"
    return str(namespace.client.request("POST", path, {"spec": spec})["status"]["token"])


def post(pod: Object, token: str, done: int) -> None:
    """As a stage does, with what the operator told its Job."""
    (container,) = pod["spec"]["containers"]
    told = {each["name"]: each.get("value", "") for each in container["env"]}
    progress = {"stage": "download", "done": done, "total": 100, "unit": "bytes"}
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(
        told[PROGRESS_URL_VARIABLE], json.dumps(progress).encode(), headers, method="POST"
    )
    fetch(request, ssl.create_default_context(cadata=told[PROGRESS_CA_VARIABLE]))
