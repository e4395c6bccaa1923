"""With `select: best` the adapter is that of the best evaluation, wherever the training was interrupted."""

import logging
from collections.abc import Callable
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
    World,
    partly_known,
    random_pairs,
    wait_for_checkpoint,
    world,
)

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

BEST, STEPS = 4, 12
WEIGHTS = "adapter_model.safetensors"


def fields(**checkpoint: Any) -> dict[str, Any]:
    return {**OVERFITTING, "checkpoint": {"every": 1, "keep": "all", "select": "best"} | checkpoint}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, TrainResult]:
    """A training that nobody interrupted, and that left a checkpoint after every step."""
    made = world(tmp_path_factory.mktemp("whole"), held_out=partly_known(), **fields())
    return made, made.train()


def losses(made: World) -> dict[int, float]:
    """Of the evaluations, but for the base's, by step."""
    return {row["step"]: row["eval_loss"] for row in made.metrics() if "eval_loss" in row and row["step"]}


def bests(made: World) -> list[int]:
    """Steps of the complete ones in the store."""
    return made.complete("best")


def of_step(made: World, step: int) -> bytes:
    """The adapter in the checkpoint of a step."""
    return (made.state(step) / WEIGHTS).read_bytes()


def adapter(made: World) -> bytes:
    return (made.place / "adapter" / WEIGHTS).read_bytes()


def test_the_adapter_is_that_of_the_lowest_loss(whole: tuple[World, TrainResult]) -> None:
    made, result = whole
    found = losses(made)
    assert min(found, key=found.__getitem__) == BEST
    assert adapter(made) == of_step(made, BEST) != of_step(made, STEPS)
    told = result.training
    assert (told.step, told.best_step, told.stopped_early) == (STEPS, BEST, None)
    assert float(told.best_eval_loss or 0) == pytest.approx(found[BEST], rel=1e-5)
    assert float(told.eval_loss or 0) == pytest.approx(found[STEPS], rel=1e-5)
    assert made.manifest().lineage["best"] == {"step": BEST, "evalLoss": told.best_eval_loss}
    card = (made.place / "adapter" / "README.md").read_text()
    assert "| adapter of step, which has the lowest loss on held-out rows | 4 of 12 |" in card
    assert bests(made) == sorted(
        {step for step in found if found[step] == min(found[n] for n in range(1, step + 1))}
    )


def test_the_training_itself_is_the_same_as_with_the_last(whole: tuple[World, TrainResult]) -> None:
    made = whole[0].training(**fields(select="last"))
    told = made.train().training
    assert made.metrics() == whole[0].metrics()
    assert adapter(made) != adapter(whole[0])
    assert (told.best_step, told.best_eval_loss, bests(made)) == (None, None, [])
    assert "best" not in made.manifest().lineage


def cut(made: World, root: Path, step: int) -> World:
    """The store as a machine that dies after this step leaves it; better ones may have been kept since."""
    left = made.copy(root)
    for later in range(step + 1, STEPS + 1):
        left.store.delete(f"trainings/{made.arguments.key}/checkpoints/{later}")
    return left


def same_end(left: World, whole: tuple[World, TrainResult]) -> None:
    made, result = whole
    resumed = left.train()
    assert resumed.adapter.digest == result.adapter.digest
    assert (resumed.training.best_step, resumed.training.best_eval_loss) == (
        BEST,
        result.training.best_eval_loss,
    )
    assert left.metrics() == made.metrics()
    assert left.compared() == made.compared()
    assert bests(left)[-1] == BEST


@pytest.mark.parametrize("step", [0, BEST - 1, BEST, BEST + 1, STEPS - 1, STEPS], ids="after step {}".format)
def test_a_training_that_dies_ends_with_the_same_adapter(
    whole: tuple[World, TrainResult], tmp_path: Path, step: int
) -> None:
    same_end(cut(whole[0], tmp_path, step), whole)


@pytest.mark.parametrize("step", [BEST - 1, BEST, BEST + 1], ids="asked after step {}".format)
def test_a_training_that_is_asked_to_stop_ends_with_the_same_adapter(
    whole: tuple[World, TrainResult], tmp_path: Path, step: int
) -> None:
    """The evaluation of that step is cut short, and made up for."""
    left = cut(whole[0], tmp_path, 0)
    with pytest.raises(StageError) as stopped:
        left.interrupted_train(step)
    assert stopped.value.reason is Reason.PREEMPTED
    assert left.checkpoints()[-1] == step
    assert bests(left)[-1] == min(step - 1, BEST)
    same_end(left, whole)


def test_what_no_checkpoint_speaks_of_is_not_kept(whole: tuple[World, TrainResult], tmp_path: Path) -> None:
    left = cut(whole[0], tmp_path, BEST + 1).training(**fields(keep=2))
    assert bests(left)[:-1]
    same_end(left, whole)
    assert left.checkpoints() == [STEPS - 1, STEPS]
    assert bests(left) == [BEST]


def test_the_best_is_kept_between_two_checkpoints(whole: tuple[World, TrainResult], tmp_path: Path) -> None:
    """Its step is none at which a checkpoint is due."""
    left = cut(whole[0], tmp_path, 0).training(**fields(every=5))
    with pytest.raises(StageError):
        left.interrupted_train(6)
    assert (left.checkpoints(), bests(left)) == ([5, 6], [BEST])
    same_end(left, whole)


def _lose(place: Path) -> None:
    (place / WEIGHTS).unlink()


def _flip(place: Path) -> None:
    data = bytearray((place / WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (place / WEIGHTS).write_bytes(data)


def _leave_incomplete(place: Path) -> None:
    (place / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("damage", "log"),
    [
        pytest.param(_lose, f"{WEIGHTS} does not exist", id="a lost file"),
        pytest.param(_flip, f"the file {WEIGHTS} does not match manifest.json", id="a flipped bit"),
        pytest.param(_leave_incomplete, "", id="an upload that was cut"),
    ],
)
def test_a_checkpoint_whose_best_is_damaged_is_not_gone_on_from(
    whole: tuple[World, TrainResult],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
    log: str,
) -> None:
    left = cut(whole[0], tmp_path, BEST + 1)
    damage(left.state(BEST, "best"))
    with caplog.at_level(logging.WARNING, "lorafinetune_stages"):
        same_end(left, whole)
    assert log in caplog.text
    assert left.progress().resumed_from == BEST - 1


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


def test_an_attempt_that_is_overtaken_keeps_nothing_more(
    whole: tuple[World, TrainResult], tmp_path: Path
) -> None:
    left = cut(whole[0], tmp_path, 0)
    with pytest.raises(StageError) as caught:
        left.train_with(Overtaken(left, BEST))
    assert caught.value.reason is Reason.SUPERSEDED
    assert (bests(left)[-1], left.checkpoints()[-1]) == (BEST - 1, BEST - 1)
    same_end(left, whole)


def test_a_training_that_is_stopped_early_has_the_adapter_of_its_best_step(
    whole: tuple[World, TrainResult], tmp_path: Path
) -> None:
    made = whole[0].training(**fields(earlyStopping={"patience": 3}))
    told = made.train().training
    assert (told.step, told.best_step, told.stopped_early) == (BEST + 3, BEST, True)
    assert adapter(made) == adapter(whole[0])
    left = made.copy(tmp_path)
    assert left.train().adapter.digest == made.train().adapter.digest


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"learningRate": "1e-3", "epochs": "1"}, id="where that is the last"),
        pytest.param({"lora": {"variant": "dora"}}, id="of DoRA"),
        pytest.param({"precision": "fp32"}, id="of fp32"),
    ],
)
def test_the_best_of_each_kind(whole: tuple[World, TrainResult], changes: dict[str, Any]) -> None:
    made = whole[0].training(**{**fields(), **changes})
    made.train()
    found = losses(made)
    best = min(found, key=found.__getitem__)
    assert made.manifest().lineage["best"]["step"] == best
    kept = made.state(best, "best") / WEIGHTS
    assert adapter(made) == kept.read_bytes()


def test_the_best_of_pairs(tmp_path: Path) -> None:
    pairs: dict[str, Any] = {"objective": "dpo", "lora": {"dropout": "0"}, "epochs": "2"}
    made = world(
        tmp_path,
        rows=random_pairs(8),
        held_out=random_pairs(3, seed=1),
        **{**fields(every=2, keep=1), **pairs},
    )
    told = made.train().training
    found = losses(made)
    assert told.best_step == min(found, key=found.__getitem__)
    assert adapter(made) == (made.state(told.best_step, "best") / WEIGHTS).read_bytes()
