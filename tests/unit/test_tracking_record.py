"""What trackers are told, as a function of what the store keeps of a run."""

import json
import math
from itertools import pairwise
from typing import Any

import pytest

from builders import artifact
from lorafinetune.api.artifacts import Artifacts, Published
from lorafinetune.api.status import LoRAFineTuneStatus
from lorafinetune.contract.rowlosses import Compared
from lorafinetune.report.sources import DataReport, Output, Run, Sources
from lorafinetune_stages.tracking.record import (
    MAX_PARAMETERS,
    MAX_POINTS,
    MAX_TEXT,
    Record,
    StepValues,
    record,
)
from unit.report_runs import data_report, ended, evaluations, held_out, logged, steps

KEY = "c" * 64


def told(
    log: Any = (), lineage: Any = {}, compared: Any = None, storage: str = "s3://bucket/runs", **status: Any
) -> Record:
    """lineage: of the training. status: fields of the run's."""
    run = Run.of(ended())
    found = Sources(
        Run(run.name, run.namespace, run.model, run.objective, False, run.status.model_copy(update=status)),
        logged(log),
        DataReport.model_validate(data_report()),
        {"trainings": Output(KEY, "d" * 64, "2026-01-31T12:00:00Z", lineage)},
        None if compared is None else Compared.model_validate_json(json.dumps(compared)),
    )
    return record(found, storage, "s3://bucket/runs/reports/team-a/tune/en.html")


POINTS: dict[str, tuple[list[dict[str, Any]], list[StepValues]]] = {
    "a step has its loss and its learning rate": (
        [{"step": 1, "loss": 2.0, "learning_rate": 1e-4, "epoch": 0.5, "grad_norm": 3.0, "tokens": 9}],
        [
            StepValues(
                1,
                {"train/loss": 2.0, "train/learning_rate": 1e-4, "train/grad_norm": 3.0, "train/epoch": 0.5},
            )
        ],
    ),
    "an evaluation is a point of the step that it is after": (
        [{"step": 0, "eval_loss": 3.0}, {"step": 1, "loss": 2.0}, {"step": 1, "epoch": 1, "eval_loss": 2.5}],
        [StepValues(0, {"eval/loss": 3.0}), StepValues(1, {"train/loss": 2.0, "eval/loss": 2.5})],
    ),
    "points come in the order of their steps": (
        [{"step": 2, "loss": 1.0}, {"step": 1, "loss": 2.0}],
        [StepValues(1, {"train/loss": 2.0}), StepValues(2, {"train/loss": 1.0})],
    ),
    "pairs have an accuracy": (
        [{"step": 4, "eval_loss": 0.5, "eval_rewards/accuracies": 0.75}],
        [StepValues(4, {"eval/loss": 0.5, "eval/accuracy": 0.75})],
    ),
    "what is no number is left out": (
        [{"step": 1, "loss": 2.0, "grad_norm": math.inf, "tokens_per_second": math.nan}],
        [StepValues(1, {"train/loss": 2.0})],
    ),
    "a row of nothing is no point": ([{"step": 1}], []),
    "the evaluation of what is exported is no point": (
        [{"step": 1, "eval_loss": 2.0, "exported": True}],
        [],
    ),
}


@pytest.mark.parametrize("sentence", POINTS)
def test_points(sentence: str) -> None:
    log, points = POINTS[sentence]
    assert list(told(log).points) == points


@pytest.mark.parametrize(("rows", "every"), [(MAX_POINTS, 1), (MAX_POINTS + 1, 2), (5 * MAX_POINTS, 5)])
def test_a_long_curve_is_thinned_and_keeps_its_end(rows: int, every: int) -> None:
    log = [{"step": n, "loss": 1.0} for n in range(1, rows + 1)]
    points = told([*log, {"step": 1, "eval_loss": 2.0}]).points
    found = [point.step for point in points if "train/loss" in point.values]
    assert len(found) <= MAX_POINTS + 1
    assert {later - earlier for earlier, later in pairwise(found[:-1])} == {every}
    assert found[-1] == rows
    assert points[0].values["eval/loss"] == 2.0


def test_the_result_is_told_with_what_chance_may_have_made_of_it() -> None:
    log = [{"step": 0, "eval_loss": 2.25}, *steps(30), *evaluations(2)]
    results = told(log, compared=held_out(-0.3)).results
    assert (results["result/loss"], results["result/base_loss"]) == (2, 2.25)
    assert results["result/change_low"] <= results["result/change"] <= results["result/change_high"] < 0
    assert results["result/held_out_rows"] == 60


def test_a_training_without_an_evaluation_has_no_loss_on_held_out_rows() -> None:
    assert "result/loss" not in told(steps(3)).results


PARAMETERS: dict[str, tuple[Any, dict[str, str]]] = {
    "nested values are told by their paths": (
        {"config": {"lora_rank": 8}, "datasets": [{"rows": 9}], "seed": 42},
        {"config.lora_rank": "8", "datasets.0.rows": "9", "seed": "42"},
    ),
    "a name that could be a path is none": ({"../a/b": 1, "..": 2}, {"_a_b": "1", "_": "2"}),
    "a name of strange letters keeps its place": ({"名字\n": 1}, {"___": "1"}),
    "a text moves no terminal": ({"a": "\x1b[2J\u202eb"}, {"a": "\ufffd[2J\ufffdb"}),
    "a long text is cut": ({"a": "x" * 9000}, {"a": "x" * (MAX_TEXT - 1) + "…"}),
    "a huge number is told as it stands": ({"a": 10**400}, {"a": f"1{'0' * 400}"}),
    "nothing is left out": ({"a": None}, {}),
}


@pytest.mark.parametrize("sentence", PARAMETERS)
def test_parameters(sentence: str) -> None:
    lineage, parameters = PARAMETERS[sentence]
    assert told(lineage=lineage).parameters == parameters


def test_no_lineage_is_too_large_for_a_tracker() -> None:
    assert len(told(lineage={f"p{n}": n for n in range(5000)}).parameters) == MAX_PARAMETERS


def test_tags_say_what_came_of_it_and_where_it_is() -> None:
    made = Artifacts(
        adapter=artifact("adapter"), published=(Published(uri="hf://team/tuned", revision="c0ffee"),)
    )
    tags = told([*steps(3), *evaluations(2, 1)], artifacts=made).tags
    assert tags["lorafinetune.adapter"] == artifact("adapter").uri
    assert tags["lorafinetune.published.0"] == "hf://team/tuned"
    assert tags["lorafinetune.report"].endswith("/reports/team-a/tune/en.html")
    assert (tags["lorafinetune.verdict"], tags["lorafinetune.training"]) == ("fell", KEY)
    assert "lorafinetune.merged" not in tags


def test_no_path_of_a_machine_is_told() -> None:
    local = artifact("adapter").model_copy(update={"uri": "file:///home/me/store"})
    assert "lorafinetune.adapter" not in told(artifacts=Artifacts(adapter=local)).tags


def test_what_is_told_again_is_the_same() -> None:
    assert told(steps(3)) == told(steps(3))


def test_another_store_has_another_run() -> None:
    assert told(storage="s3://bucket/other").id != told().id


def test_a_run_of_which_little_is_known_is_told() -> None:
    status = LoRAFineTuneStatus().model_dump()
    unknown: dict[str, Any] = dict.fromkeys(status)
    assert told(**unknown).tags["lorafinetune.name"] == "tune"
