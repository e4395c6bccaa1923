"""A training that does not get better any more ends early, at the same step wherever it was interrupted."""

from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError, TrainResult
from stages.train_builders import OVERFITTING, World, partly_known, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

LAST = 7
"""Three evaluations after the lowest loss."""
FIELDS: dict[str, Any] = {
    **OVERFITTING,
    "checkpoint": {"every": 1, "keep": "all", "earlyStopping": {"patience": 3}},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, TrainResult]:
    """A training that nobody interrupted, and that left a checkpoint after every step."""
    made = world(tmp_path_factory.mktemp("whole"), held_out=partly_known(), **FIELDS)
    return made, made.train()


def test_it_ends_when_patience_is_exhausted_and_is_complete(whole: tuple[World, TrainResult]) -> None:
    made, result = whole
    losses = {row["step"]: row["eval_loss"] for row in made.metrics() if "eval_loss" in row and row["step"]}
    assert list(losses) == list(range(1, LAST + 1))
    assert min(losses, key=losses.__getitem__) == LAST - 3
    assert (result.training.step, result.training.total_steps) == (LAST, 12)
    assert result.training.stopped_early
    assert made.manifest().lineage["stoppedEarly"] == {"step": LAST, "of": 12}
    assert "| stopped early after step | 7 of 12 |" in (made.place / "adapter" / "README.md").read_text()
    assert made.checkpoints() == list(range(1, LAST + 1))
    told = made.progress().training
    assert told
    assert (told.step, told.total_steps, told.stopped_early) == (LAST, 12, True)


def test_its_adapter_is_what_a_longer_training_had_at_that_step(whole: tuple[World, TrainResult]) -> None:
    longer = whole[0].training(**OVERFITTING)
    assert not longer.train().training.stopped_early
    kept = longer.state(LAST)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (whole[0].place / "adapter" / name).read_bytes() == (kept / name).read_bytes()
    assert "stoppedEarly" not in longer.manifest().lineage


def cut(made: World, root: Path, step: int) -> World:
    """The store as a machine that dies after this step leaves it."""
    left = made.copy(root)
    for later in range(step + 1, LAST + 1):
        left.store.delete(f"trainings/{made.arguments.key}/checkpoints/{later}")
    return left


def same_end(left: World, whole: tuple[World, TrainResult]) -> None:
    made, result = whole
    resumed = left.train()
    assert resumed.adapter.digest == result.adapter.digest
    assert resumed.training.stopped_early
    assert left.metrics() == made.metrics()
    assert (left.place / "loss.png").read_bytes() == (made.place / "loss.png").read_bytes()


@pytest.mark.parametrize("step", [0, 3, 4, 5, 6, LAST], ids="after step {}".format)
def test_a_training_that_dies_ends_at_the_same_step(
    whole: tuple[World, TrainResult], tmp_path: Path, step: int
) -> None:
    same_end(cut(whole[0], tmp_path, step), whole)


@pytest.mark.parametrize("step", [4, 6, LAST], ids="asked after step {}".format)
def test_a_training_that_is_asked_to_stop_ends_at_the_same_step(
    whole: tuple[World, TrainResult], tmp_path: Path, step: int
) -> None:
    """The evaluation of that step is cut short, and made up for: after the last one without another step."""
    left = cut(whole[0], tmp_path, 0)
    with pytest.raises(StageError) as stopped:
        left.interrupted_train(step)
    assert stopped.value.reason is Reason.PREEMPTED
    assert left.checkpoints()[-1] == step
    same_end(left, whole)


def test_an_improvement_counts_only_above_the_least_one(whole: tuple[World, TrainResult]) -> None:
    rule = {"patience": 1, "minImprovement": "5"}
    made = whole[0].training(**{**FIELDS, "checkpoint": {"earlyStopping": rule}})
    assert made.train().training.step == 2
