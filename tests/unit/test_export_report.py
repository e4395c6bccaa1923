"""The page about a run that its export leaves in the store."""

import logging
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.exports import Export
from lorafinetune.contract.arguments import STORE_DIRECTORY_VARIABLE, ExportArguments
from lorafinetune.contract.outcome import ExportResult
from lorafinetune.core.steps import arguments_of
from lorafinetune_stages import export
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store.directory import DirectoryStore
from unit.report_runs import STORE, data_report, ended, evaluations, held_out, put, shape, steps
from unit.world import status_of

RUN = ended()
PAGE = "reports/team-a/tune/en.html"


def arguments(**changes: Any) -> ExportArguments:
    """Of the export of the adapter alone, as the operator gives them."""
    given = arguments_of("export", RUN, status_of(RUN))
    assert isinstance(given, ExportArguments)
    return given.model_copy(update={"export": Export()} | changes)


def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root / STORE / "bucket" / "runs", "s3://bucket/runs")


def run(root: Path, given: ExportArguments) -> ExportResult:
    """The stage, after a training that is better than its base."""
    log = [{"step": 0, "eval_loss": 2.25}, *steps(30), *evaluations(2)]
    put(root, RUN, log, data_report(), {"seed": 42}, held_out(-0.3))
    return export.run(given, Context(store(root), root, Reporter("export", root / "progress.json")))


def text(root: Path, page: str = PAGE) -> str:
    return " ".join(shape((store(root).read(page) or b"").decode()).text.split())


def test_it_says_what_is_known_once_the_export_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(STORE_DIRECTORY_VARIABLE, raising=False)
    assert run(tmp_path, arguments()).report == f"s3://bucket/runs/{PAGE}"
    found = text(tmp_path)
    for said in (
        "in team-a: Complete",
        "the tuned model is better than its base: the loss is lower by 0.3",
        "row by row over 60 rows: −0.3",
        "90 rows to train on",
        "went on from a checkpoint: 2",
        "exportComplete",
        "lorafinetune fetch team-a/tune --what adapter",
        "seed42",
    ):
        assert said in found
    assert "优于基座模型" in text(tmp_path, "reports/team-a/tune/zh.html")


def test_a_local_run_is_read_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE_DIRECTORY_VARIABLE, str(tmp_path / STORE))
    run(tmp_path, arguments())
    assert "lorafinetune fetch lorafinetune-runs/team-a/tune/resource.yaml --what" in text(tmp_path)
    assert str(tmp_path) not in (store(tmp_path).read(PAGE) or b"").decode()


def test_another_run_of_the_same_name_replaces_it(tmp_path: Path) -> None:
    run(tmp_path, arguments())
    store(tmp_path).write(PAGE, b"of an older run")
    run(tmp_path, arguments())
    assert "Complete" in text(tmp_path)


def test_an_older_operator_asks_for_none(tmp_path: Path) -> None:
    assert run(tmp_path, arguments(run=None)).report is None
    assert list(store(tmp_path).list("reports")) == []


def test_a_log_that_can_not_be_read_costs_the_page_and_not_the_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, RUN, [{"step": "no number"}], data_report(), {})
    context = Context(store(tmp_path), tmp_path, Reporter("export", tmp_path / "progress.json"))
    with caplog.at_level(logging.WARNING):
        found = export.run(arguments(), context)
    assert (found.report, len(found.key)) == (None, 64)
    assert "there is no page about the run: s3://bucket/runs/trainings/" in caplog.text


def test_what_the_export_is_told_does_not_change_while_it_runs() -> None:
    """A Job is held against the one that would be made now."""
    status = status_of(RUN)
    running = [
        stage.model_copy(update={"state": "Running", "attempts": 2, "message": "merging"})
        if stage.name == "export"
        else stage.model_copy(update={"message": "said later"})
        for stage in status.stages
    ]
    later = status.model_copy(update={"stages": tuple(running), "progress": "42%"})
    assert arguments_of("export", RUN, later) == arguments_of("export", RUN, status)
