"""Weights & Biases is told of a run. There is no server of theirs to be had: a stand-in hears it, and
answers what their client was seen to ask. The client is the real one."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubs.server import Answer, Request, Server, failing, hung_up, redirected, sending
from lorafinetune.api.exports import Export
from lorafinetune.api.sources import Connection, SecretReference
from lorafinetune.contract.outcome import ExportResult
from lorafinetune_stages import export
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.tracking import wandb
from stages.test_export_trackers import LINEAGE, LOG, RUN, arguments
from unit.report_runs import STORE, data_report, held_out, put

KEY = "0123456789abcdef" * 3
TRACKER = "export.trackers[0].name: wandb can't be told"


class StandIn(Server):
    """Keeps one run: its name, its configuration and its history."""

    def __init__(self) -> None:
        super().__init__()
        self.run: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}

    def answer(self, request: Request) -> Answer:
        if request.path == "/graphql":
            return Answer(body=json.dumps({"data": self._asked(json.loads(request.body))}).encode())
        if request.path.endswith("/file_stream"):
            self._streamed(json.loads(request.body).get("files", {}))
        return Answer(body=b"{}")

    def _asked(self, body: Any) -> dict[str, Any]:
        if body["operationName"] == "RunResumeStatus":
            return {"model": self._model()} if self.run else {"model": None}
        if body["operationName"] == "UpsertBucket":
            given = {name: value for name, value in body["variables"].items() if value is not None}
            self.run |= given | {"config": self.run.get("config", {}) | json.loads(given["config"])}
            return {"upsertBucket": {"bucket": self._bucket(), "inserted": True}}
        return {}

    def _model(self) -> dict[str, Any]:
        entity = {"id": "e", "name": "team"}
        return {"id": "m", "name": "runs", "entity": entity, "bucket": self._bucket()}

    def _bucket(self) -> dict[str, Any]:
        return {
            "id": "b",
            "name": self.run["name"],
            "displayName": self.run.get("displayName"),
            "config": json.dumps(self.run["config"]),
            "summaryMetrics": json.dumps(self.summary),
            "historyLineCount": len(self.history),
            "historyTail": json.dumps([json.dumps(row) for row in self.history[-1:]]),
            "eventsTail": "[]",
            "wandbConfig": json.dumps({"t": 1}),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "tags": [],
            "project": {"id": "p", "name": "runs", "entity": {"id": "e", "name": "team"}},
        }

    def _streamed(self, files: Any) -> None:
        self.history += map(json.loads, files.get("wandb-history.jsonl", {}).get("content", ()))
        for text in files.get("wandb-summary.json", {}).get("content", ()):
            self.summary = json.loads(text)


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTION_TRACKER_TOKEN", KEY)


def tell(root: Path, url: str) -> ExportResult:
    put(root, RUN, LOG, data_report(), LINEAGE, held_out(-0.3))
    connection = Connection(name="tracker", endpoint=url, secret_ref=SecretReference(name="tracker"))
    tracker = {"name": "wandb", "entity": "team", "project": "runs", "connection": "tracker"}
    given = arguments().model_copy(
        update={"connections": (connection,), "export": Export.decode({"trackers": [tracker]})}
    )
    scratch = root / "scratch"
    scratch.mkdir(exist_ok=True)
    store = DirectoryStore(root / STORE / "bucket" / "runs", "s3://bucket/runs")
    return export.run(given, Context(store, scratch, Reporter("export", root / "progress")))


def losses(server: StandIn) -> list[tuple[int, float]]:
    return [(row["_step"], row["train/loss"]) for row in server.history if "train/loss" in row]


def test_a_run_is_there_with_all_that_is_told(tmp_path: Path, stand_in: StandIn) -> None:
    assert tell(tmp_path, stand_in.url).warnings == ()
    assert (stand_in.run["displayName"], stand_in.run["project"], stand_in.run["entity"]) == (
        "tune",
        "runs",
        "team",
    )
    assert losses(stand_in) == [(row["step"], row["loss"]) for row in LOG if "loss" in row]
    assert stand_in.summary["result/base_loss"] == 2.25
    config = {name: entry["value"] for name, entry in stand_in.run["config"].items()}
    assert (config["seed"], config["lorafinetune.verdict"]) == ("42", "better")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_nothing_is_told_of_the_machine(
    tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_NOTES", "private-notes")
    monkeypatch.setenv("CONNECTION_STORE_AWS_SECRET_ACCESS_KEY", "private-key")
    tell(tmp_path, stand_in.url)
    sent = b"".join(request.body for request in stand_in.requests).decode()
    machine = Path("/etc/hostname").read_text().strip()
    for private in (machine, str(tmp_path), "private", 'commit":"', "requirements.txt", "output.log"):
        assert private not in sent
    assert {request.path for request in stand_in.requests} == {
        "/graphql",
        f"/files/team/runs/{stand_in.run['name']}/file_stream",
    }


def test_a_repeated_export_makes_no_second_run_and_no_second_point(tmp_path: Path, stand_in: StandIn) -> None:
    tell(tmp_path, stand_in.url)
    name, told = stand_in.run["name"], losses(stand_in)
    assert tell(tmp_path, stand_in.url).warnings == ()
    assert (stand_in.run["name"], losses(stand_in)) == (name, told)


ANSWERS: dict[str, tuple[Any, str]] = {
    "a refused key": (failing(401), "refuses"),
    "a server that fails": (failing(500), "was not done after 15 s"),
    "a web page": (sending(b"<html>"), "answers oddly"),
}


@pytest.mark.parametrize("sentence", ANSWERS)
def test_it_is_a_warning(
    sentence: str, tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb, "WITHIN_SECONDS", 15)
    fault, said = ANSWERS[sentence]
    stand_in.fail("/graphql", *[fault] * 100)
    result = tell(tmp_path, stand_in.url)
    (warning,) = result.warnings
    assert warning.startswith(f"{TRACKER}: {stand_in.url.removeprefix('http://')} ")
    assert said in warning
    assert KEY not in str(result)
    assert result.report


def test_a_server_that_says_nothing_is_left_in_time(
    tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb, "WITHIN_SECONDS", 5)
    stand_in.fail("/graphql", *[hung_up] * 1000)
    began = time.monotonic()
    (warning,) = tell(tmp_path, stand_in.url).warnings
    assert time.monotonic() - began < 30
    assert warning.startswith(TRACKER)


def test_without_a_key_nobody_is_asked(
    tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONNECTION_TRACKER_TOKEN")
    (warning,) = tell(tmp_path, stand_in.url).warnings
    assert "needs the token of the connection 'tracker': CONNECTION_TRACKER_TOKEN is not set" in warning
    assert stand_in.requests == []


def test_a_way_into_the_network_is_not_followed(tmp_path: Path, stand_in: StandIn) -> None:
    stand_in.fail("/graphql", *[redirected("http://169.254.169.254/latest/meta-data")] * 100)
    (warning,) = tell(tmp_path, stand_in.url).warnings
    host = stand_in.url.removeprefix("http://")
    where = "169.254.169.254, a link-local address, which is not followed"
    assert warning == f"{TRACKER}: {host} redirects to {where}"
