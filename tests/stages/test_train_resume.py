"""A training that is interrupted ends as if it had not been, to the bit, wherever it was cut."""

import itertools
import logging
import os
import re
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError, TrainResult
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.train.fence import Fence
from stages.train_builders import (
    OVERFITTING,
    PROGRESS,
    ROWS,
    World,
    partly_known,
    random_pairs,
    wait_for_checkpoint,
    world,
)

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

STEPS = 6
CORRUPT = Reason.CHECKPOINT_CORRUPT
EVALUATION = {"fraction": "0.2", "everySteps": 2}
ANSWERING = "answering held-out prompts"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, TrainResult]:
    """A training that nobody interrupted, and that left a checkpoint after every step."""
    made = world(
        tmp_path_factory.mktemp("whole"), evaluation=EVALUATION, checkpoint={"every": 1, "keep": "all"}
    )
    return made, made.train()


def cut(made: World, root: Path, step: int) -> World:
    """The store as a machine that dies after this step leaves it."""
    left = made.copy(root)
    for later in range(step + 1, STEPS + 1):
        left.store.delete(f"trainings/{made.arguments.key}/checkpoints/{later}")
    return left


def same_end(left: World, whole: tuple[World, TrainResult], resumes: int = 1) -> None:
    made, result = whole
    resumed = left.train()
    assert resumed.adapter.digest == result.adapter.digest
    assert left.metrics() == made.metrics()
    assert (left.place / "loss.png").read_bytes() == (made.place / "loss.png").read_bytes()
    assert left.manifest().lineage["resumes"] == resumes


def test_a_checkpoint_is_made_of_the_last_step_where_an_evaluation_follows(
    whole: tuple[World, TrainResult], tmp_path: Path
) -> None:
    assert whole[0].checkpoints() == [1, 2, 3, 4, 5, 6]
    alone = whole[0].copy(tmp_path).training(checkpoint={"every": 1, "keep": "all"})
    alone.train()
    assert alone.checkpoints() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("step", range(STEPS + 1), ids="after step {}".format)
def test_a_training_that_dies_goes_on_from_its_last_checkpoint(
    whole: tuple[World, TrainResult], tmp_path: Path, step: int
) -> None:
    left = cut(whole[0], tmp_path, step)
    same_end(left, whole, resumes=1 if step else 0)
    assert left.progress().resumed_from == (step or None)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"lora": {"variant": "dora"}}, id="DoRA"),
        pytest.param({"extraArgs": {"neftune_noise_alpha": "5"}}, id="NEFTune"),
        pytest.param({"precision": "fp32", "scheduler": "linear", "warmupRatio": "0.5"}, id="fp32, warm-up"),
        pytest.param({"extraArgs": {"loraplus_lr_ratio": "4"}, "weightDecay": "0.1"}, id="LoRA+ and decay"),
    ],
)
def test_a_training_of_each_kind_goes_on(
    whole: tuple[World, TrainResult], tmp_path: Path, fields: dict[str, Any]
) -> None:
    made = whole[0].training(epochs=None, maxSteps=4, checkpoint={"every": 2}, **fields)
    result = made.train()
    left = made.copy(tmp_path)
    same_end(left, (made, result))


@pytest.mark.parametrize("step", [1, 2, 3, 4, STEPS], ids="asked after step {}".format)
def test_a_request_to_stop_is_obeyed_at_the_end_of_the_step(
    whole: tuple[World, TrainResult], tmp_path: Path, step: int
) -> None:
    """Step 3 ends an epoch; at steps 2 and 4 an evaluation is cut short, and made up for. After the last one
    it does not begin."""
    left = cut(whole[0], tmp_path, 0).training(evaluation=EVALUATION)
    with pytest.raises(StageError) as stopped:
        left.interrupted_train(step)
    assert stopped.value.reason is Reason.PREEMPTED
    assert stopped.value.message == f"saved a checkpoint at step {step} of {STEPS}"
    assert left.checkpoints()[-1] == step
    assert not (left.place / "manifest.json").exists()
    same_end(left, whole)


def test_a_training_survives_several_stops(whole: tuple[World, TrainResult], tmp_path: Path) -> None:
    left = cut(whole[0], tmp_path, 0)
    for moment in (1, 3):
        with pytest.raises(StageError):
            left.interrupted_train(moment)
    same_end(left, whole, resumes=2)


def test_a_request_before_the_first_step_is_obeyed_at_once(
    whole: tuple[World, TrainResult], tmp_path: Path
) -> None:
    left = cut(whole[0], tmp_path, 0)
    with pytest.raises(StageError) as stopped:
        left.interrupted_train("loading the model")
    assert stopped.value.reason is Reason.PREEMPTED
    assert stopped.value.message == "the training was asked to stop before its first step"
    assert left.checkpoints() == []


def test_a_request_in_the_last_step_lets_a_training_finish_that_evaluates_nothing(
    whole: tuple[World, TrainResult], tmp_path: Path
) -> None:
    left = whole[0].copy(tmp_path).training()
    assert left.interrupted_train(STEPS).training.step == STEPS
    assert left.checkpoints() == [3]


class Watched:
    """A training on which steps and evaluations are counted. It is asked to stop as an evaluation begins."""

    def __init__(self, patch: pytest.MonkeyPatch, asked_at: int = 0) -> None:
        from lorafinetune_stages.train.callback import TrainingCallback
        from lorafinetune_stages.train.held_out_evaluation import HeldOutEvaluation

        self.steps, self.evaluations = list[int](), 0
        begin, tuned = TrainingCallback.on_step_begin, HeldOutEvaluation.tuned

        def stepping(callback: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.steps.append(state.global_step + 1)
            begin(callback, args, state, control, **more)

        def evaluating(evaluation: Any, *args: Any, **more: Any) -> dict[str, float]:
            self.evaluations += 1
            if self.evaluations == asked_at:
                os.kill(os.getpid(), signal.SIGTERM)
            return tuned(evaluation, *args, **more)

        patch.setattr(TrainingCallback, "on_step_begin", stepping)
        patch.setattr(HeldOutEvaluation, "tuned", evaluating)


ODD_END: dict[str, Any] = {"epochs": None, "maxSteps": 4}
"""The last step is the first one of an epoch."""
EARLY_END = {**OVERFITTING, "checkpoint": {"every": 5, "earlyStopping": {"patience": 1}}}
BEST = {"checkpoint": {"every": 5, "select": "best"}}
PAIRS = {"objective": "dpo", "lora": {"dropout": "0"}, "checkpoint": {"every": 5}}
ENDS: dict[str, tuple[dict[str, Any], int | str]] = {
    "in the last evaluation": ({}, 3),
    "in the last evaluation, with no other checkpoint": ({"checkpoint": {"every": 100}}, 3),
    "in the last evaluation, in the midst of an epoch": (ODD_END, 2),
    "in the last evaluation of the best": (BEST, 3),
    "in the last evaluation of pairs": (PAIRS, 3),
    "as it answers": ({}, ANSWERING),
    "as it answers, in the midst of an epoch": (ODD_END, ANSWERING),
    "as the best answers": (BEST, ANSWERING),
    "as it answers after an early end": (EARLY_END, ANSWERING),
    "as it answers to pairs": (PAIRS, ANSWERING),
}


@pytest.mark.parametrize("sentence", ENDS)
def test_no_step_is_trained_twice_for_what_follows_the_last_one(
    sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields, moment = ENDS[sentence]
    pairs: dict[str, Any] = {"rows": random_pairs(ROWS), "held_out": random_pairs(3, seed=1)}
    rows = pairs if fields is PAIRS else {"held_out": partly_known()}
    left = world(tmp_path / "made", **{"evaluation": EVALUATION, **rows, **fields})
    made = left.copy(tmp_path / "calm")
    result = made.train()
    assert len(made.answers()["answers"]) == 3

    last = result.training.step
    with monkeypatch.context() as patch:
        watched = Watched(patch, moment if isinstance(moment, int) else 0)
        with pytest.raises(StageError) as stopped:
            left.interrupted_train(moment if isinstance(moment, str) else "")
        assert (stopped.value.reason, stopped.value.checkpoint) == (Reason.PREEMPTED, last)
        assert left.checkpoints()[-1] == last
        assert not (left.place / "manifest.json").exists()
        assert (resumed := left.train()).training.stopped_early == result.training.stopped_early
    assert watched.steps == list(range(1, last + 1))
    assert resumed.adapter.digest == result.adapter.digest
    assert (left.metrics(), left.compared(), left.answers()) == (
        made.metrics(),
        made.compared(),
        made.answers(),
    )
    assert (left.place / "loss.png").read_bytes() == (made.place / "loss.png").read_bytes()


@pytest.mark.parametrize(("keep", "kept"), [(1, [6]), (2, [5, 6]), ("all", [1, 2, 3, 4, 5, 6])])
def test_the_newest_checkpoints_are_kept(
    whole: tuple[World, TrainResult], tmp_path: Path, keep: Any, kept: list[int]
) -> None:
    left = cut(whole[0], tmp_path, 3).training(evaluation=EVALUATION, checkpoint={"every": 1, "keep": keep})
    left.train()
    assert left.checkpoints() == kept


def _flip(left: World) -> None:
    path = left.state(4) / "optimizer.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _lose(left: World) -> None:
    (left.state(4) / "rng_state.pth").unlink()


def _garble(left: World) -> None:
    (left.state(4) / "manifest.json").write_text("{}")


def _change_a_digit(left: World) -> None:
    path = left.state(4) / "manifest.json"
    path.write_text(path.read_text().replace('"attempt": 1', '"attempt": 3'))


def _leave_incomplete(left: World) -> None:
    (left.state(4) / "manifest.json").unlink()


def _swap(left: World) -> None:
    """The checkpoint of another step in this one's place."""
    left.store.delete(f"trainings/{left.arguments.key}/checkpoints/4")
    shutil.copytree(left.place / "checkpoints" / "2", left.place / "checkpoints" / "4", dirs_exist_ok=True)


@pytest.mark.parametrize(
    ("damage", "log"),
    [
        pytest.param(
            _flip, f"{CORRUPT}.*the file optimizer.pt does not match manifest.json", id="a flipped bit"
        ),
        pytest.param(_lose, f"{CORRUPT}.*rng_state.pth does not exist", id="a lost file"),
        pytest.param(_garble, f"{CORRUPT}.*manifest.json: kind: Field required", id="an unreadable manifest"),
        pytest.param(
            _change_a_digit,
            f"{CORRUPT}.*manifest.json: its seal is not that of what it says",
            id="another digit in the manifest",
        ),
        pytest.param(_leave_incomplete, "", id="an upload that was cut"),
        pytest.param(
            _swap, f"{CORRUPT}.*checkpoints/4/1 belongs to another training", id="a checkpoint from elsewhere"
        ),
    ],
)
def test_a_bad_checkpoint_is_told_of_and_the_one_before_is_used(
    whole: tuple[World, TrainResult],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Any,
    log: str,
) -> None:
    left = cut(whole[0], tmp_path, 4)
    damage(left)
    with caplog.at_level(logging.WARNING, "lorafinetune_stages"):
        same_end(left, whole)
    assert re.search(log, caplog.text)
    assert left.progress().resumed_from == 3
    assert left.checkpoints()[-3:] == [4, 5, 6]


def test_checkpoints_are_made_by_the_clock_where_minutes_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at the clock is 25 seconds later."""
    from lorafinetune_stages.train import callback
    from lorafinetune_stages.train.save_schedule import SaveSchedule

    clock = itertools.count(0, 25)
    monkeypatch.setattr(callback, "SaveSchedule", partial(SaveSchedule, clock=lambda: next(clock)))
    made = world(tmp_path, checkpoint={"every": "1m", "keep": "all"})
    made.train()
    assert made.checkpoints() == [3]


def test_without_a_whole_checkpoint_the_training_begins_anew(
    whole: tuple[World, TrainResult], tmp_path: Path
) -> None:
    left = cut(whole[0], tmp_path, 1)
    (left.state(1) / "trainer_state.json").write_text("{}")
    same_end(left, whole, resumes=0)


class Overtaken(Reporter):
    """A newer attempt begins when this one reports a step, and has sent what it saved before."""

    def __init__(self, made: World, step: int) -> None:
        super().__init__("train", made.root / PROGRESS)
        self._made, self._step = made, step

    def update(self, **changes: object) -> None:
        super().update(**changes)
        if changes.get("done") == self._step:
            wait_for_checkpoint(self._made, self._step - 1)
            Fence(self._made.store, f"trainings/{self._made.arguments.key}")


@pytest.mark.parametrize("step", [3, STEPS], ids=["half-way", "after the last step"])
def test_an_attempt_that_is_overtaken_writes_nothing_more(
    whole: tuple[World, TrainResult], tmp_path: Path, step: int
) -> None:
    left = cut(whole[0], tmp_path, 0)
    with pytest.raises(StageError) as caught:
        left.train_with(Overtaken(left, step))
    assert caught.value.reason is Reason.SUPERSEDED
    assert left.checkpoints() == list(range(1, step))
    assert not (left.place / "manifest.json").exists()
    same_end(left, whole)
