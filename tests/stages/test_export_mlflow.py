"""MLflow is told of a run: a real server, and one that means harm."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hubs.mlflow_server import MlflowServer
from hubs.server import Answer, Request, Server, failing, hung_up, redirected, sending
from lorafinetune.api.exports import Export
from lorafinetune.api.sources import Connection, SecretReference
from lorafinetune.contract.outcome import ExportResult
from lorafinetune_stages import export
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.tracking.dispatch import in_time
from stages.test_export_trackers import LINEAGE, LOG, RUN, arguments
from unit.report_runs import STORE, data_report, held_out, key_of, put

TRACKER = "export.trackers[0].name: mlflow can't be told"


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


class StandIn(Server):
    """Answers as MLflow does to whoever tells it of a first run. It keeps nothing."""

    def answer(self, request: Request) -> Answer:
        method = request.path.removeprefix("/api/2.0/mlflow/")
        said: dict[str, Any] = {
            "experiments/get-by-name": {"experiment": {"experiment_id": "7", "lifecycle_stage": "active"}},
            "runs/create": {"run": {"info": {"run_id": "r1"}}},
        }
        return Answer(body=json.dumps(said.get(method, {})).encode())


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


def tell(root: Path, url: str, experiment: str, lineage: Any = LINEAGE, secret: bool = False) -> ExportResult:
    put(root, RUN, LOG, data_report(), lineage, held_out(-0.3))
    reference = SecretReference(name="tracker") if secret else None
    connection = Connection(name="tracker", endpoint=url, secret_ref=reference)
    tracker = {"name": "mlflow", "experiment": experiment, "connection": "tracker"}
    given = arguments().model_copy(
        update={"connections": (connection,), "export": Export.decode({"trackers": [tracker]})}
    )
    store = DirectoryStore(root / STORE / "bucket" / "runs", "s3://bucket/runs")
    context = Context(store, root, Reporter("export", root / "progress"))
    return export.run(given, context, lambda _: None)


def pairs(values: Any) -> dict[str, str]:
    return {pair["key"]: pair["value"] for pair in values}


def test_a_run_is_there_with_all_that_is_told(tmp_path: Path, mlflow: MlflowServer) -> None:
    assert tell(tmp_path, mlflow.url, "whole").warnings == ()
    (run,) = mlflow.runs("whole")
    assert (run["info"]["run_name"], run["info"]["status"]) == ("tune", "FINISHED")
    curve = mlflow.curve(run["info"]["run_id"], "train/loss")
    assert curve == [(row["step"], row["loss"]) for row in LOG if "loss" in row]
    assert mlflow.curve(run["info"]["run_id"], "eval/loss") == [(0, 2.25), (10, 2)]
    assert mlflow.curve(run["info"]["run_id"], "result/base_loss") == [(30, 2.25)]
    assert pairs(run["data"]["params"]) == {"seed": "42", "config.template": "glm4\ufffd[2J"}
    tags = pairs(run["data"]["tags"])
    assert tags["lorafinetune.verdict"] == "better"
    assert tags["lorafinetune.training"] == key_of(RUN, "train")
    assert {name for name in tags if not name.startswith("lorafinetune.")} <= {"mlflow.runName"}


def test_a_repeated_export_makes_no_second_run_and_no_second_point(
    tmp_path: Path, mlflow: MlflowServer
) -> None:
    for _ in range(2):
        assert tell(tmp_path, mlflow.url, "twice").warnings == ()
    (run,) = mlflow.runs("twice")
    assert len(mlflow.curve(run["info"]["run_id"], "train/loss")) == 30


@pytest.mark.parametrize("method", ["runs/create", "runs/log-batch", "runs/update"])
def test_a_crash_between_two_requests_is_made_good_by_the_next_export(
    tmp_path: Path, mlflow: MlflowServer, method: str
) -> None:
    """Whatever is told again is told once."""
    experiment = f"crash at {method}"
    with Between(mlflow.url, method) as proxy:
        assert tell(tmp_path, proxy.url, experiment).warnings != ()
    assert tell(tmp_path, mlflow.url, experiment).warnings == ()
    (run,) = mlflow.runs(experiment)
    assert run["info"]["status"] == "FINISHED"
    assert len(mlflow.curve(run["info"]["run_id"], "train/loss")) == 30
    assert pairs(run["data"]["params"])["seed"] == "42"


class Between(Server):
    """Passes everything on, and hangs up once it has passed on the first request to a method."""

    def __init__(self, url: str, method: str) -> None:
        super().__init__()
        self._to, self._method, self._is_cut = url, method, False

    def answer(self, request: Request) -> Answer:
        if self._is_cut:
            return Answer(500)
        self._is_cut = request.path.endswith(self._method)
        return self._passed_on(request)

    def _passed_on(self, request: Request) -> Answer:
        answer = httpx.request(
            request.method,
            f"{self._to}{request.path}",
            params=dict(request.query),
            content=request.body,
            headers={"Content-Type": "application/json"},
        )
        return Answer(500 if self._is_cut else answer.status_code, answer.content)


@pytest.mark.parametrize("name", ["情感 模型", "/Users/a team/it's `one`", "a" * 250])
def test_an_experiment_may_have_any_name(tmp_path: Path, mlflow: MlflowServer, name: str) -> None:
    assert tell(tmp_path, mlflow.url, name).warnings == ()
    assert len(mlflow.runs(name)) == 1


def test_an_experiment_that_was_deleted_is_named(tmp_path: Path, mlflow: MlflowServer) -> None:
    made = mlflow.post("experiments/create", name="gone")["experiment_id"]
    mlflow.post("experiments/delete", experiment_id=made)
    (warning,) = tell(tmp_path, mlflow.url, "gone").warnings
    assert warning == f"{TRACKER}: its experiment 'gone' is deleted there: restore it, or name another"


def test_hostile_texts_are_taken(tmp_path: Path, mlflow: MlflowServer) -> None:
    lineage = {"../../etc": "x", "名" * 500: "y" * 9000, "a/b": "\x00\u202e", "n": 10**300} | {
        f"p{number}": number for number in range(1000)
    }
    assert tell(tmp_path, mlflow.url, "hostile", lineage).warnings == ()
    (run,) = mlflow.runs("hostile")
    assert len(run["data"]["params"]) == 300


ANSWERS: dict[str, tuple[str, Any, str]] = {
    "a server that fails": ("runs/create", failing(503), "answers 503"),
    "a server that hangs up": ("runs/search", hung_up, "can't be reached"),
    "a refused token": ("experiments/get-by-name", failing(403), "answers 403"),
    "a web page": ("runs/search", sending(b"<html>"), "answers with something else than MLflow does"),
    "a list": ("runs/search", sending(b"[1]"), "answers with something else than MLflow does"),
    "a run of numbers": (
        "runs/search",
        sending(b'{"runs": [{"info": {"run_id": 5}}]}'),
        "answers with something else than MLflow does",
    ),
    "runs that are none": (
        "runs/search",
        sending(b'{"runs": {"info": 1}}'),
        "answers with something else than MLflow does",
    ),
    "deep nesting": ("runs/search", sending(b"[" * 100_000), "answers with something else than MLflow does"),
    "a way into the network": (
        "runs/search",
        redirected("http://169.254.169.254/latest/meta-data"),
        "redirects to 169.254.169.254, a link-local address, which is not followed",
    ),
}


@pytest.mark.parametrize("sentence", ANSWERS)
def test_it_is_a_warning(sentence: str, tmp_path: Path, stand_in: StandIn) -> None:
    method, fault, said = ANSWERS[sentence]
    stand_in.fail(method, *[fault] * 5)
    result = tell(tmp_path, stand_in.url, "any")
    (warning,) = result.warnings
    assert warning.startswith(TRACKER)
    assert said in warning
    assert result.report


def test_a_server_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    with StandIn() as gone:
        url = gone.url
    (warning,) = tell(tmp_path, url, "any").warnings
    assert warning.startswith(f"{TRACKER}: {url.removeprefix('http://')} can't be reached")


SECRETS: dict[str, tuple[dict[str, str], str]] = {
    "a token": ({"TOKEN": "secret-token"}, "Bearer secret-token"),
    "a name and a password": ({"USERNAME": "me", "PASSWORD": "päss"}, "Basic bWU6cMOkc3M="),
    "both": ({"USERNAME": "me", "PASSWORD": "päss", "TOKEN": "secret-token"}, "Basic bWU6cMOkc3M="),
}


@pytest.mark.parametrize("sentence", SECRETS)
def test_credentials_are_sent(
    sentence: str,
    tmp_path: Path,
    stand_in: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept, header = SECRETS[sentence]
    for name, value in kept.items():
        monkeypatch.setenv(f"CONNECTION_TRACKER_{name}", value)
    with caplog.at_level("DEBUG", "lorafinetune"):
        result = tell(tmp_path, stand_in.url, "any", secret=True)
    assert result.warnings == ()
    assert {request.headers["Authorization"] for request in stand_in.requests} == {header}
    assert not any(value in f"{caplog.text}{result}" for value in kept.values() if len(value) > 2)


def test_a_secret_without_a_key_is_a_warning(tmp_path: Path, stand_in: StandIn) -> None:
    (warning,) = tell(tmp_path, stand_in.url, "any", secret=True).warnings
    assert "needs the token of the connection 'tracker': CONNECTION_TRACKER_TOKEN is not set" in warning
    assert stand_in.requests == []


def test_whoever_is_not_done_in_time_is_left_behind() -> None:
    never = threading.Event()

    def slow() -> None:
        never.wait()

    connection = Connection(name="tracker", endpoint="http://slow.example")
    origin = Origin("spec.export.trackers[0]", "models", "mlflow", connection=connection, name="name")
    try:
        warning = in_time(slow, origin, 0.05)
        assert warning == f"{TRACKER}: slow.example was not done after 0 s"
    finally:
        never.set()


def test_what_nobody_thought_of_is_a_warning() -> None:
    def broken() -> None:
        raise ZeroDivisionError("with a secret in it")

    origin = Origin("spec.export.trackers[0]", "models", "mlflow", name="name")
    assert in_time(broken, origin, 60) == f"{TRACKER}: ZeroDivisionError"
