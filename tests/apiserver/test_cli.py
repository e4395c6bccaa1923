"""The commands that speak with a cluster, against a real API server, as users with and without rights."""

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from apiserver.kubelet import Kubelet
from apiserver.logs import node
from apiserver.operating import MERGE, Namespace, metric
from builders import NOW, document, sha
from cluster.apiserver import ApiServer
from cluster.build import binary
from cluster.s3server import S3Server
from commands import Command, commander, completer
from documents import ROOT, SAMPLE, Typist, checkout, said
from lorafinetune.contract.arguments import CREDENTIAL_KEYS, credential_variable
from lorafinetune.contract.times import rfc3339
from lorafinetune.core.observed import NAME_LABEL, STAGE_LABEL
from stages.store_builders import s3_store
from unit.test_cli_store import put

Json = dict[str, Any]

PLUGIN = "client.authentication.k8s.io/v1"


@pytest.fixture
def anonymous(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """The command in a home without a kubeconfig, on a wide terminal."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return commander(monkeypatch, capsys)


@pytest.fixture
def lorafinetune(anonymous: Command, served: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command as an administrator."""
    monkeypatch.setenv("KUBECONFIG", str(served.kubeconfig))
    return anonymous


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of a run."""

    def write(name: str, spec: Mapping[str, Any] | None = None, **metadata: Any) -> Path:
        made = document(spec) | {"metadata": {"name": name} | metadata}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(made))
        return path

    return write


def test_a_credential_plugin_logs_in(anonymous: Command, served: ApiServer, tmp_path: Path) -> None:
    answer = {"apiVersion": PLUGIN, "kind": "ExecCredential", "status": {"token": served.token}}
    (tmp_path / "answer").write_text(json.dumps(answer))
    config = yaml.safe_load(served.kubeconfig.read_text())
    plugin = {"apiVersion": PLUGIN, "command": "cat", "args": [str(tmp_path / "answer")]}
    config["users"][0]["user"] = {"exec": plugin | {"interactiveMode": "Never"}}
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    assert anonymous("list", "--kubeconfig", tmp_path / "config")[0] == 0


COMPLETED = {
    "a run that is watched": ["watch"],
    "a run that is fetched": ["fetch"],
    "a run that is asked": ["chat"],
    "a run that is reported": ["report"],
    "the first of two that are compared": ["diff"],
    "the second of two that are compared": ["diff", "other"],
}


@pytest.mark.parametrize("sentence", COMPLETED)
def test_the_shell_is_offered(
    sentence: str,
    own_namespace: Namespace,
    served: ApiServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("tune", "other"):
        own_namespace.apply(name)
    monkeypatch.setenv("KUBECONFIG", str(served.kubeconfig))
    command, *before = COMPLETED[sentence]
    offered = completer(monkeypatch, capsys)(command, "-n", own_namespace.name, *before, "t")
    assert offered == ["tune", ":4"]


def test_kubectl_finds_the_command_and_its_completion(
    own_namespace: Namespace, served: ApiServer, tmp_path: Path
) -> None:
    own_namespace.apply("tune")
    person = Typist(tmp_path)
    found = [Path(sys.executable).parent, binary("kubectl").parent]
    path = os.pathsep.join([*map(str, found), os.environ["PATH"]])
    person.environment |= {"PATH": path, "KUBECONFIG": str(served.kubeconfig), "COLUMNS": "200"}
    listed = person.type(f"kubectl finetune list -n {own_namespace.name}")
    assert listed.splitlines()[1].split()[0] == "tune"
    completed = person.type(f"kubectl __complete finetune watch -n {own_namespace.name} t")
    assert completed.splitlines()[0].split()[0] == "tune"


def test_apply_creates_changes_and_leaves_alone(
    lorafinetune: Command, own_namespace: Namespace, file: Callable[..., Path]
) -> None:
    there = ("-n", own_namespace.name)
    said = [
        lorafinetune("apply", file("tune", spec), *there)[1]
        for spec in ({}, {}, {"training": {"epochs": "4"}})
    ]
    name = "lorafinetune.lorafinetune.dev/tune"
    assert said == [f"{name} created\n", f"{name} unchanged\n", f"{name} configured\n"]
    assert own_namespace.get("tune")["spec"]["training"]["epochs"] == "4"
    assert lorafinetune("apply", file("tune"), *there, "-o", "name") == (0, f"{name}\n", "")


def test_apply_yields_to_another_owner_unless_it_is_forced(
    lorafinetune: Command, own_namespace: Namespace, file: Callable[..., Path]
) -> None:
    own_namespace.apply("tune", {"suspend": True})
    there = ("-n", own_namespace.name)
    code, _, err = lorafinetune("apply", file("tune", {"suspend": False}), *there)
    assert code == 64
    assert re.match(r"Conflict: .*spec\.suspend.* Take the fields over with --force-conflicts", err)
    assert lorafinetune("apply", file("tune", {"suspend": False}), *there, "--force-conflicts")[0] == 0
    assert own_namespace.get("tune")["spec"]["suspend"] is False


def test_apply_takes_the_namespace_of_the_file_and_refuses_another(
    lorafinetune: Command, own_namespace: Namespace, file: Callable[..., Path]
) -> None:
    written = file("tune", namespace=own_namespace.name)
    assert lorafinetune("apply", written)[0] == 0
    code, _, err = lorafinetune("apply", written, "-n", "elsewhere")
    assert (code, err.startswith(f"ConfigInvalid: the file says namespace {own_namespace.name}")) == (
        64,
        True,
    )


def test_apply_sends_nothing_that_validate_refuses(
    lorafinetune: Command, own_namespace: Namespace, file: Callable[..., Path]
) -> None:
    bad = file("tune", {"training": {"extraArgs": {"deepspeed": "x"}}})
    assert lorafinetune("apply", bad, "-n", own_namespace.name)[2] == lorafinetune("validate", bad)[2]
    assert own_namespace.items("lorafinetunes") == []


def test_list_shows_the_runs_and_why_one_does_not_get_on(
    lorafinetune: Command, own_namespace: Namespace
) -> None:
    there = ("-n", own_namespace.name)
    assert lorafinetune("list", *there)[1] == f"There are no runs in the namespace {own_namespace.name}.\n"
    own_namespace.apply("bravo")
    own_namespace.apply("alpha")
    told(own_namespace, "alpha", "Train", {"gpuSeconds": {"held": 61}, "loss": "1.25", "progress": "42%"})
    told(own_namespace, "bravo", "Download", {"gpuSeconds": {"held": 3700}}, reason="SecretMissing")
    heading, *rows = (line.split() for line in lorafinetune("list", *there)[1].splitlines())
    assert heading == ["NAME", "STAGE", "PROGRESS", "LOSS", "ETA", "GPU-TIME", "AGE", "REASON"]
    assert [row[:6] for row in rows] == [
        ["alpha", "Train", "42%", "1.25", "-", "1m1s"],
        ["bravo", "Download", "-", "-", "-", "1h1m"],
    ]
    assert [row[7] for row in rows] == ["-", "SecretMissing"]
    sorted_names = lorafinetune("list", *there, "--sort", "gpu-seconds", "-o", "name")[1].splitlines()
    assert [name.rpartition("/")[2] for name in sorted_names] == ["bravo", "alpha"]
    everywhere = lorafinetune("list", "--all-namespaces", "-o", "wide")[1].splitlines()
    assert everywhere[0].startswith("NAMESPACE")
    assert any(line.split()[:2] == [own_namespace.name, "alpha"] for line in everywhere)
    listed = json.loads(lorafinetune("list", *there, "-o", "json")[1])
    assert listed == yaml.safe_load(lorafinetune("list", *there, "-o", "yaml")[1])
    assert [item["metadata"]["name"] for item in listed["items"]] == ["alpha", "bravo"]
    assert "managedFields" not in listed["items"][0]["metadata"]


def test_suspend_and_resume_set_the_field(lorafinetune: Command, own_namespace: Namespace) -> None:
    own_namespace.apply("tune")
    there = ("-n", own_namespace.name)
    name = "lorafinetune.lorafinetune.dev/tune"
    resume = f"`lorafinetune resume tune -n {own_namespace.name}`"
    told(own_namespace, "tune", "Train", training(10))
    assert lorafinetune("suspend", "tune", *there) == (
        0,
        f"{name} suspended: train stops after a checkpoint, and {resume} goes on from there\n",
        "",
    )
    assert own_namespace.get("tune")["spec"]["suspend"] is True
    again = lorafinetune("suspend", "tune", *there)
    assert again == (0, f"{name} is suspended already; {resume} lets it go on\n", "")
    assert lorafinetune("resume", "tune", *there) == (0, f"{name} resumed\n", "")
    assert own_namespace.get("tune")["spec"]["suspend"] is False
    assert lorafinetune("resume", "tune", *there) == (0, f"{name} was not suspended\n", "")


ENDS: dict[str, tuple[Json, str, int, list[str]]] = {
    "a failure that a person must mend is 64": (
        {
            "failure": {
                "stage": "train",
                "reason": "LossDiverged",
                "message": "at step 3",
                "hint": "Lower it.",
            }
        },
        "Failed",
        64,
        [
            "train failed: LossDiverged: at step 3",
            "hint: Lower it.",
            "log: lorafinetune logs tune -n NAMESPACE --stage train",
        ],
    ),
    "a failure that may pass is 75": (
        {"failure": {"stage": "download", "reason": "HubUnavailable", "message": "m", "hint": "h"}},
        "Failed",
        75,
        [
            "download failed: HubUnavailable: m",
            "hint: h",
            "log: lorafinetune logs tune -n NAMESPACE --stage download",
        ],
    ),
    "a reason of a newer operator is 1": (
        {"failure": {"stage": "train", "reason": "Unheard", "message": "m", "hint": "h"}},
        "Failed",
        1,
        ["train failed: Unheard: m", "hint: h", "log: lorafinetune logs tune -n NAMESPACE --stage train"],
    ),
    "a suspended run is 85": (
        {"checkpoint": {"step": 40, "uri": "s3://b/c"}},
        "Suspended",
        85,
        ["suspended at step 40; `lorafinetune resume tune -n NAMESPACE` goes on from there"],
    ),
}


@pytest.mark.parametrize("sentence", ENDS)
def test_watch_ends_as_the_run_does(sentence: str, lorafinetune: Command, own_namespace: Namespace) -> None:
    status, end, code, lines = ENDS[sentence]
    own_namespace.apply("tune")
    soon(lambda: told(own_namespace, "tune", "Train", training(10)))
    soon(lambda: told(own_namespace, "tune", end, status, reason=end, true=end), after=0.5)
    ended = lorafinetune("watch", "tune", "-n", own_namespace.name)
    assert ended[0] == code
    said = ended[1].splitlines()
    assert said[0] == "waiting for the operator to look at it; does one serve this namespace?"
    assert said[1:3] == [
        "train began as Job lft-train-1",
        "train: training 10/100 steps, 1m30s left, loss 1.25",
    ]
    assert said[3:] == [line.replace("NAMESPACE", own_namespace.name) for line in lines]


def test_watch_says_that_a_run_was_deleted(lorafinetune: Command, own_namespace: Namespace) -> None:
    own_namespace.apply("tune")
    soon(lambda: own_namespace.client.delete(own_namespace.path("lorafinetunes", "tune")))
    code, _, err = lorafinetune("watch", "tune", "-n", own_namespace.name)
    assert (code, err) == (85, "tune was deleted before it ended\n")


def test_watch_outlasts_an_api_server_that_goes_away(
    lorafinetune: Command, own_namespace: Namespace, served: ApiServer
) -> None:
    own_namespace.apply("tune")
    others = watches(served)
    with ThreadPoolExecutor() as elsewhere:
        watching = elsewhere.submit(lorafinetune, "watch", "tune", "-n", own_namespace.name)
        own_namespace.wait(lambda: watches(served) > others)
        served.stop()
        served.start()
        told(own_namespace, "tune", "Complete", {}, reason="Complete", true="Complete")
        code, out, _ = watching.result(60)
    assert code == 0
    assert "NoAnswer: https://127.0.0.1:" in out
    assert "It is tried again." in out


def test_who_stops_watching_does_not_stop_the_run(
    lorafinetune: Command, own_namespace: Namespace, served: ApiServer
) -> None:
    def interrupt() -> None:
        own_namespace.wait(lambda: watches(served) > others)
        os.kill(os.getpid(), signal.SIGINT)

    own_namespace.apply("tune")
    others = watches(served)
    soon(interrupt)
    code, _, err = lorafinetune("watch", "tune", "-n", own_namespace.name)
    assert code == 130
    assert err == f"tune goes on; `lorafinetune watch tune -n {own_namespace.name}` shows it again\n"


def watches(server: ApiServer) -> float:
    """How many watches of runs the API server serves."""
    told = server.request("GET", "/metrics").decode()
    return metric(told, "apiserver_longrunning_requests", resource="lorafinetunes")


def test_the_pages_commands_do_what_they_say(served: ApiServer, runs: Namespace, tmp_path: Path) -> None:
    reader = Typist(checkout(tmp_path, {}))
    reader.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    reader.environment["KUBECONFIG"] = str(served.kubeconfig)
    there = {"team-a": runs.name}
    with Kubelet(runs):
        printed = reader.type(said("docs/how-to/cli.md", "A run on a cluster"), 60, there)
        for stage in ("download", "prepare", "train", "export"):
            assert f"{stage} is complete\n" in printed
        assert "adapter      s3://bucket/runs/adapter\n" in printed
        assert "smollm2-emollm   Complete" in printed
        reader.type(said("docs/how-to/cli.md", "A run on a cluster", 1), 60, there)


def test_the_readmes_model_is_fetched_by_the_name_of_its_run(
    served: ApiServer,
    own_namespace: Namespace,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    where = f"exports/{sha('exported')}"
    s3_server.create_bucket("finetunes")
    stored = put(s3_store(s3_server, monkeypatch, "finetunes", "demo"), where)
    s3_server.create_user("lorafinetune", "lorafinetune-secret")
    s3_server.let_read("lorafinetune", "finetunes")
    sample = yaml.safe_load((ROOT / SAMPLE).read_text())
    own_namespace.client.request("POST", own_namespace.path("lorafinetunes"), sample)
    merged = {"uri": f"s3://finetunes/demo/{where}", "digest": stored.digest, "bytes": stored.bytes}
    told(own_namespace, "smollm2-emollm", "Complete", {"artifacts": {"merged": merged}}, true="Complete")
    reader = Typist(checkout(tmp_path, {}))
    reader.environment["KUBECONFIG"] = str(within(own_namespace, served, tmp_path / "config"))
    changed = {
        SERVICE_IN_CLUSTER: s3_server.endpoint,
        '.venv/bin/python samples/ask.py model "Who are you?"': "",
    }
    assert (
        reader.type(said("README.md", "On a cluster", 1), 60, changed) == "The merged model is in model/.\n"
    )
    assert (tmp_path / "model" / "data").read_bytes() == b"content"


SERVICE_IN_CLUSTER = "http://$(kubectl -n storage get service s3 -o jsonpath='{.spec.clusterIP}'):7070"


def within(namespace: Namespace, server: ApiServer, path: Path) -> Path:
    """A kubeconfig whose context is of a namespace."""
    config = yaml.safe_load(server.kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = namespace.name
    path.write_text(yaml.safe_dump(config))
    return path


def test_logs_of_a_run_without_pods_say_so(lorafinetune: Command, own_namespace: Namespace) -> None:
    own_namespace.apply("tune")
    code, _, err = lorafinetune("logs", "tune", "--stage", "train", "-n", own_namespace.name)
    assert code == 64
    assert err.startswith("NotFound: tune has no pod of train: none has been made yet, or its Job")


def a_pod(namespace: Namespace, run: str, stage: str, node: str) -> str:
    """A Pod of a run's stage that runs on a node."""
    name = f"{run}-{stage}-x"
    labels = {NAME_LABEL: run, STAGE_LABEL: stage}
    spec = {"containers": [{"name": stage, "image": "example.com/none:1"}]}
    made = {"metadata": {"name": name, "labels": labels}, "spec": spec}
    namespace.run(namespace.client.request("POST", namespace.path("pods"), made), node)
    return name


def test_logs_follow_the_pod_of_the_running_stage(
    lorafinetune: Command, own_namespace: Namespace, served: ApiServer, tmp_path: Path
) -> None:
    own_namespace.apply("tune")
    asked: list[str] = []
    ours = b'{"level": "INFO", "stage": "train", "message": "training"}\n'
    pieces = [ours, b"loading\n10%\r20", b"%\nbad \x1b[2J \xff\ttext\nno newline at the end"]
    with node(served, tmp_path / "node", pieces, asked) as host:
        pod = a_pod(own_namespace, "tune", "train", host)
        code, out, err = lorafinetune("logs", "tune", "-n", own_namespace.name, "--tail", "9")
    assert (code, err) == (0, f"train: pod {pod}\n")
    assert out.splitlines() == [
        "INFO training",
        "loading",
        "10%",
        "20%",
        "bad \ufffd[2J \ufffd    text",
        "no newline at the end",
    ]
    assert asked == [f"/containerLogs/{own_namespace.name}/{pod}/train?follow=true&tailLines=9"]


def test_gc_keeps_in_s3_what_the_runs_of_the_namespace_refer_to(
    lorafinetune: Command,
    own_namespace: Namespace,
    s3_server: S3Server,
    file: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for key in CREDENTIAL_KEYS:
        monkeypatch.setenv(credential_variable("store", key), "")
    bucket = f"bucket-{own_namespace.name}"
    s3_server.create_bucket(bucket)
    client = s3_server.client()
    for place in (f"prepared/{sha('mine')}", f"prepared/{sha('old')}", f"trainings/{sha('old')}"):
        client.put_object(Bucket=bucket, Key=f"runs/{place}/manifest.json", Body=b"{}")
    (tmp_path / "secrets" / "s3").mkdir(parents=True)
    (tmp_path / "secrets" / "s3" / "AWS_ACCESS_KEY_ID").write_text(s3_server.access_key)
    (tmp_path / "secrets" / "s3" / "AWS_SECRET_ACCESS_KEY").write_text(s3_server.secret_key)
    spec = {"storage": {"uri": f"s3://{bucket}/runs"}}
    own_namespace.apply("tune", spec)
    stages = [{"name": "download", "state": "Complete"}, {"name": "prepare", "state": "Complete"}]
    stages[1]["key"] = sha("mine")
    told(own_namespace, "tune", "Train", {"stages": stages})
    options = ("--s3", "--endpoint", s3_server.endpoint, "--secrets", tmp_path / "secrets")
    there = ("-n", own_namespace.name, "--runs", tmp_path / "none", "--older-than", "0m", "--delete")
    code, out, err = lorafinetune("gc", file("tune", spec), *options, *there)
    asked, *_, last = out.splitlines()
    assert (
        asked == f"runs of this store: none in {tmp_path / 'none'}, 1 in the namespace {own_namespace.name}"
    )
    assert (code, err, last) == (0, "", "4 bytes freed")
    left = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert [item["Key"] for item in left] == [f"runs/prepared/{sha('mine')}/manifest.json"]
    client.close()


def training(step: int) -> Json:
    """A status in the middle of a training."""
    stage = {"name": "train", "state": "Running", "job": "lft-train-1", "message": "training"}
    counted = {"progress": {"done": step, "total": 100, "unit": "steps"}}
    return {
        "stages": [stage | counted],
        "eta": "1m30s",
        "training": {"step": step, "totalSteps": 100, "loss": "1.25"},
    }


def told(
    namespace: Namespace, name: str, stage: str, status: Json, reason: str = "", true: str = "Reconciling"
) -> None:
    """Writes a status as the operator would: where the run stands, why, and which condition holds."""
    run = namespace.get(name)
    conditions = [
        {
            "type": kind,
            "status": "True" if kind == true or (kind == "Ready" and true == "Complete") else "False",
            "reason": reason or stage,
            "message": f"{stage} is told",
            "lastTransitionTime": rfc3339(NOW),
        }
        for kind in ("Ready", true)
    ]
    observed = {"observedGeneration": run["metadata"]["generation"], "conditions": conditions, "stage": stage}
    path = f"{namespace.path('lorafinetunes', name)}/status"
    namespace.client.request("PATCH", path, {"status": observed | status}, MERGE)


def soon(action: Callable[[], None], after: float = 0.2) -> threading.Timer:
    """Does something in another thread while the test watches."""
    timer = threading.Timer(after, action)
    timer.start()
    return timer
