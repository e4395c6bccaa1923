"""From a pod's post to the columns of its resource: with a real token, over TLS."""

import json
import os
import ssl
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.error import HTTPError

import pytest

from apiserver.operating import Namespace, Object, Operator, uid
from apiserver.siege import BAD, UNAUTHENTICATED
from cluster.certificates import Authority
from cluster.process import Process, fetch, free_port
from lorafinetune.api.status import StageName
from lorafinetune.contract.arguments import PROGRESS_CA_VARIABLE, PROGRESS_URL_VARIABLE
from lorafinetune.core.jobs import PROGRESS_AUDIENCE

HOST = "127.0.0.1"
BAD_REQUESTS: Final = 10_000
SLOW_CONNECTIONS: Final = 200
SIEGE_SECONDS: Final = 240
TIMES_SLOWER: Final = 20
AT_LEAST: Final = 0.5
"""How much longer it may take under siege to look at a run, as the operator has one processor for both; and
the seconds that it may take in any case, as a calm machine looks in a few thousandths."""
LOOKS: Final = "lorafinetune_reconcile_latency_seconds"


@pytest.fixture
def address() -> str:
    """Where the operator listens for progress."""
    return f"{HOST}:{free_port()}"


@pytest.fixture
def listening(address: str, identity: Path, own_namespace: Namespace, tmp_path: Path) -> Iterator[Operator]:
    """An operator to which stages can post."""
    Authority(tmp_path).issue("tls", hosts=[HOST])
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


def test_a_pod_that_no_job_controls_tells_no_progress(own_namespace: Namespace, listening: Operator) -> None:
    """It has the labels of a pod of that Job, and a token that the cluster made for it."""
    own_namespace.apply("spoken-for")
    pod = own_namespace.pod(own_namespace.job("spoken-for", "download"))
    bare = own_namespace.client.request("POST", own_namespace.path("pods"), by_hand(pod))
    for each in (bare, pod):
        own_namespace.run(each)
    with pytest.raises(HTTPError, match="403"):
        post(pod, token_of(own_namespace, bare), done=90)
    assert listening.metric("lorafinetune_progress_refused_total", reason="forbidden") == 1
    post(pod, token_of(own_namespace, pod), done=10)
    own_namespace.wait(lambda: own_namespace.status("spoken-for").get("progress") == "10%", within=5)


def by_hand(pod: Object) -> Object:
    """A pod that looks like another, but for the label by which the Job would adopt it."""
    (container,) = pod["spec"]["containers"]
    labels = {n: value for n, value in pod["metadata"]["labels"].items() if "controller-uid" not in n}
    kept = {"name": container["name"], "image": container["image"]}
    return {"metadata": {"name": "by-hand", "labels": labels}, "spec": {"containers": [kept]}}


def test_a_training_that_is_killed_is_not_counted_where_it_told_of_a_newer_checkpoint(
    own_namespace: Namespace, listening: Operator
) -> None:
    """By maxRetries 0 the first that is counted is the last."""
    own_namespace.apply("killed", {"maxRetries": 0})
    for stage in ("download", "prepare"):
        own_namespace.finish("killed", stage)
    first = train_until(own_namespace, 20, own_namespace.job("killed", "train"))
    second = train_until(own_namespace, 30, own_namespace.job("killed", "train", other_than=first))
    train_until(own_namespace, 30, own_namespace.job("killed", "train", other_than=second))
    own_namespace.until("killed", "Failed", "Internal")
    assert own_namespace.status("killed")["stages"][2]["attempts"] == 1


def train_until(namespace: Namespace, checkpoint: int, job: Object) -> Object:
    """An attempt tells of a checkpoint, and is killed once that is shown. Its Job."""
    pod = namespace.pod(job)
    namespace.run(pod)
    post(pod, token_of(namespace, pod), checkpoint, "train", checkpointStep=checkpoint, activity="training")
    namespace.wait(lambda: namespace.status("killed").get("progress") == f"{checkpoint}%")
    assert namespace.status("killed")["checkpoint"]["step"] == checkpoint
    namespace.kill(pod)
    return job


def test_a_port_under_siege_does_not_hold_up_a_run(
    address: str, own_namespace: Namespace, listening: Operator, tmp_path: Path
) -> None:
    log = tmp_path / "siege.log"
    arguments = [*address.split(":"), str(tmp_path / "ca.crt"), str(BAD_REQUESTS), str(SLOW_CONNECTIONS)]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    siege = Process([sys.executable, "-m", "apiserver.siege", *arguments], log, path)
    calm = look_at(own_namespace, "calm", listening)
    siege.launch()
    own_namespace.wait(lambda: sent(log), within=SIEGE_SECONDS)
    besieged = look_at(own_namespace, "besieged", listening)
    assert sent(log) < BAD_REQUESTS, "it went on meanwhile"
    assert besieged < max(TIMES_SLOWER * calm, AT_LEAST)
    own_namespace.wait(lambda: sent(log) == BAD_REQUESTS, within=SIEGE_SECONDS)
    siege.stop()
    refused = listening.metric("lorafinetune_progress_refused_total", reason="unauthenticated")
    assert refused > 0.9 * BAD_REQUESTS * UNAUTHENTICATED / len(BAD)
    own_namespace.apply("afterwards")
    pod = own_namespace.pod(own_namespace.job("afterwards", "download"))
    own_namespace.run(pod)
    post(pod, token_of(own_namespace, pod), done=10)
    own_namespace.wait(lambda: own_namespace.status("afterwards").get("progress") == "10%", within=5)


def look_at(namespace: Namespace, name: str, operator: Operator) -> float:
    """A run lives from its beginning to its end. Seconds until the operator has looked at it, in the mean."""
    before = looks(operator)
    namespace.apply(name)
    namespace.finish_all(name)
    seconds, times = (after - earlier for after, earlier in zip(looks(operator), before, strict=True))
    return seconds / times


def looks(operator: Operator) -> tuple[float, float]:
    """How long all of its looks took, and how many there were."""
    return operator.metric(f"{LOOKS}_sum"), operator.metric(f"{LOOKS}_count")


def sent(log: Path) -> int:
    """How many bad requests have been sent."""
    return int(([0] + [line for line in log.read_text().splitlines() if line.isdecimal()])[-1])


def token_of(namespace: Namespace, pod: Object) -> str:
    """What the kubelet would mount into the pod."""
    bound = {"kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"], "uid": uid(pod)}
    spec = {"audiences": [PROGRESS_AUDIENCE], "expirationSeconds": 3600, "boundObjectRef": bound}
    path = namespace.path("serviceaccounts", "default") + "/token"
    return str(namespace.client.request("POST", path, {"spec": spec})["status"]["token"])


def post(pod: Object, token: str, done: int, stage: StageName = "download", **more: object) -> None:
    """As a stage does, with what the operator told its Job."""
    (container,) = pod["spec"]["containers"]
    told = {each["name"]: each.get("value", "") for each in container["env"]}
    unit = "steps" if stage == "train" else "bytes"
    progress = {"stage": stage, "done": done, "total": 100, "unit": unit, **more}
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(
        told[PROGRESS_URL_VARIABLE], json.dumps(progress).encode(), headers, method="POST"
    )
    fetch(request, ssl.create_default_context(cadata=told[PROGRESS_CA_VARIABLE]))
