"""Which of the best adapters stay in the store."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from lorafinetune.api.status import ModelStatus
from lorafinetune.contract.rowlosses import RowLosses
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.train.best_adapter import FILES, BestAdapter
from lorafinetune_stages.train.fence import Fence
from lorafinetune_stages.train.state_store import StateWriter
from lorafinetune_stages.train.uploads import Uploads

MODEL = ModelStatus(source="hf://owner/model", revision="c0ffee", digest="d" * 64, bytes=1)


def write(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / FILES[0]).write_text(json.dumps({"target_modules": ["q_proj"]}))
    (directory / FILES[1]).write_text("weights")
    (directory / "README.md").write_text("PEFT writes one")


def saved(store: DirectoryStore, fence: Fence, kind: str) -> StateWriter:
    return StateWriter(store, f"t/{kind}", kind, "a" * 64, MODEL, FILES.__contains__, fence)


def made(root: Path, bests: Sequence[int], checkpoints: Sequence[int]) -> tuple[BestAdapter, StateWriter]:
    """With so many in the store."""
    store = DirectoryStore(root / "store", "s3://bucket/runs")
    fence = Fence(store, "t")
    kept, resumable = (saved(store, fence, kind) for kind in ("best", "checkpoints"))
    for states, steps in ((kept, bests), (resumable, checkpoints)):
        for step in steps:
            write(root / f"{states.kind}-{step}")
            states.send(root / f"{states.kind}-{step}", step, {})
    return BestAdapter(kept, resumable, root / "local", Uploads()), kept


def steps(stored: StateWriter) -> list[int]:
    return [state.step for state in stored.states()]


@pytest.mark.parametrize(
    ("bests", "checkpoints", "kept"),
    [
        pytest.param([10], [], [10], id="the only one"),
        pytest.param([10, 20], [], [20], id="a better one, where there is no checkpoint"),
        pytest.param([10, 20], [5], [20], id="a better one, and a checkpoint from before either"),
        pytest.param([10, 20], [15], [20, 10], id="a checkpoint between the two speaks of the first"),
        pytest.param([10, 20], [10], [20, 10], id="one at the step of the first does, too"),
        pytest.param([10, 20], [20], [20, 10], id="one at the step of the better one may"),
        pytest.param([10, 20], [21], [20], id="one after it does not"),
        pytest.param([10, 20, 30], [15], [30, 10], id="what is between is not gone on from"),
        pytest.param([10, 20, 30], [5, 25, 40], [30, 20], id="of several checkpoints one is enough"),
    ],
)
def test_what_is_kept(
    tmp_path: Path, bests: Sequence[int], checkpoints: Sequence[int], kept: Sequence[int]
) -> None:
    found, stored = made(tmp_path, bests, checkpoints)
    found.rotate()
    assert steps(stored) == kept


@pytest.mark.parametrize(
    ("step", "whole", "kept"),
    [
        pytest.param(None, True, [], id="a training that begins anew makes all of them again"),
        pytest.param(10, True, [10], id="one that goes on makes those again that are newer"),
        pytest.param(15, False, [20, 10], id="where its best is gone, nothing is removed"),
    ],
)
def test_what_is_restored(tmp_path: Path, step: int | None, whole: bool, kept: Sequence[int]) -> None:
    found, stored = made(tmp_path, [10, 20], [])
    assert found.restore(step) == whole
    assert steps(stored) == kept


def test_a_better_one_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    found, stored = made(tmp_path, [], [])
    for step in (10, 20):
        found.keep(step, write, RowLosses.of([2, 3], [step, 1.5]))
    found.wait()
    assert steps(stored) == [20]
    assert found.directory
    assert sorted(path.name for path in found.directory.iterdir()) == sorted(FILES)
    assert [path.name for path in (tmp_path / "local").iterdir()] == ["20"]


def test_one_that_an_overtaken_attempt_left_takes_no_place(tmp_path: Path) -> None:
    found, stored = made(tmp_path, [30], [])
    found.keep(20, write, RowLosses.of([2, 3], [0.25, 1.5]))
    found.wait()
    assert steps(stored) == [20]


def test_what_its_rows_cost_is_known_to_a_training_that_goes_on(tmp_path: Path) -> None:
    losses = RowLosses.of([2, 3], [0.25, 1.5])
    found, _ = made(tmp_path, [10], [])
    assert found.restore(10)
    assert found.losses is None
    found.keep(20, write, losses)
    assert found.restore(20)
    assert found.losses == losses
