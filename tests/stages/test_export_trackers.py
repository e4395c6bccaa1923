"""What the export tells trackers, once it is done with everything else."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from documents import Typist, said
from lorafinetune.api.exports import Export
from lorafinetune.contract.arguments import ExportArguments
from lorafinetune.contract.outcome import ExportResult
from lorafinetune.core.steps import arguments_of
from lorafinetune_stages import export
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store.directory import DirectoryStore
from unit.report_runs import STORE, data_report, ended, evaluations, held_out, key_of, put, steps
from unit.world import status_of

RUN = ended()
LOG = [{"step": 0, "eval_loss": 2.25}, *steps(30), *evaluations(2)]
LINEAGE = {"seed": 42, "config": {"template": "glm4\x1b[2J"}}
REPORTS = Path(STORE) / "bucket" / "runs" / "reports"
EVENTS = REPORTS / "team-a" / "tune" / "tensorboard"


def arguments(*trackers: Any) -> ExportArguments:
    given = arguments_of("export", RUN, status_of(RUN))
    assert isinstance(given, ExportArguments)
    return given.model_copy(update={"export": Export.decode({"trackers": trackers})})


def run(root: Path, *trackers: Any, log: Any = LOG) -> ExportResult:
    """The stage, after a training that is better than its base."""
    put(root, RUN, log, data_report(), LINEAGE, held_out(-0.3))
    store = DirectoryStore(root / STORE / "bucket" / "runs", "s3://bucket/runs")
    scratch = root / "scratch"
    scratch.mkdir(exist_ok=True)
    return export.run(arguments(*trackers), Context(store, scratch, Reporter("export", root / "progress")))


def read(root: Path) -> EventAccumulator:
    """As TensorBoard reads it."""
    (folder,) = (root / EVENTS).iterdir()
    assert folder.name == key_of(RUN, "train")[:16]
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def test_without_trackers_nobody_is_told(tmp_path: Path) -> None:
    assert run(tmp_path).report
    assert [path.name for path in (tmp_path / REPORTS / "team-a" / "tune").iterdir()] != []
    assert not (tmp_path / EVENTS).exists()


def test_tensorboard_reads_the_curves_and_the_result(tmp_path: Path) -> None:
    assert run(tmp_path, {"name": "tensorboard"}).warnings == ()
    found = read(tmp_path)
    losses = [(event.step, event.value) for event in found.Scalars("train/loss")]
    assert losses == [(row["step"], pytest.approx(row["loss"])) for row in steps(30)]
    assert [(event.step, event.value) for event in found.Scalars("eval/loss")] == [(0, 2.25), (10, 2)]
    assert [event.value for event in found.Scalars("result/base_loss")] == [2.25]
    (text,) = found.Tensors("run/text_summary")
    assert b"    lorafinetune.verdict: better\n" in text.tensor_proto.string_val[0]
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= set(found.summary_metadata)
    assert b"seed" in found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content


def test_a_repeated_export_leaves_the_same_file(tmp_path: Path) -> None:
    kept = []
    for _ in range(2):
        run(tmp_path, {"name": "tensorboard"})
        ((file,),) = ([*folder.iterdir()] for folder in (tmp_path / EVENTS).iterdir())
        kept.append(EventAccumulator(str(file)).Reload().Scalars("train/loss"))
    assert kept[0] == kept[1]


def test_nothing_of_it_stays_on_the_scratch_disk(tmp_path: Path) -> None:
    run(tmp_path, {"name": "tensorboard"})
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_log_that_can_not_be_read_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = run(tmp_path, {"name": "tensorboard"}, log=[{"step": "no number"}])
    warning = "export.trackers: none was told: what the store keeps of the run can't be read"
    assert (found.report, found.warnings) == (None, (warning,))
    assert warning in caplog.text


def test_tensorboard_is_started_as_documented(tmp_path: Path) -> None:
    run(tmp_path, {"name": "tensorboard"})
    page = Typist(tmp_path).type(
        said("docs/how-to/trackers.md", "TensorBoard"),
        changed={
            "tensorboard --logdir": f"{sys.executable} -m tensorboard.main --inspect --logdir",
            "lorafinetune-store/finetunes/demo": f"{STORE}/bucket/runs",
        },
    )
    assert "train/loss" in page
