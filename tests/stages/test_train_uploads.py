"""Checkpoints are sent while the training goes on, and what goes wrong with that is not lost."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError, TrainResult
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.store import Advance, Stored, ignore_progress
from lorafinetune_stages.store.directory import DirectoryStore
from stages.train_builders import PROGRESS, STORE, Interrupting, World, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

STEPS = 6
BOUND_SECONDS = 120
OPTIMIZER = "checkpoints/{}/1/optimizer.pt"


class SlowStore(DirectoryStore):
    """Takes one file no sooner than it is allowed to."""

    def __init__(self, root: Path, slow: str) -> None:
        super().__init__(root, STORE)
        self.begun, self.allowed = threading.Event(), threading.Event()
        self._slow = slow

    def upload(self, path: Path, key: str, advance: Advance = ignore_progress) -> Stored:
        if key.endswith(self._slow):
            self.begun.set()
            assert self.allowed.wait(BOUND_SECONDS), "nobody went on"
        return super().upload(path, key, advance)


class BrokenStore(DirectoryStore):
    """Has no room for one file."""

    def __init__(self, root: Path, refused: str) -> None:
        super().__init__(root, STORE)
        self._refused = refused

    def upload(self, path: Path, key: str, advance: Advance = ignore_progress) -> Stored:
        if key.endswith(self._refused):
            raise StageError(Reason.STORAGE_FULL, f"{self.uri}/{key}: there is no room")
        return super().upload(path, key, advance)


class Watching(Interrupting):
    """Lets the store go on once a step is reported, and asks the training to stop at another."""

    def __init__(self, made: World, store: SlowStore, allow_at: int, stop_at: int | str = "never") -> None:
        super().__init__(made.root / PROGRESS, stop_at)
        self.complete: list[tuple[int, int]] = []
        """Steps of the checkpoints, each with the last step that was reported before it was complete."""
        self._store, self._allow_at, self._done = store, allow_at, 0

    def update(self, **changes: object) -> None:
        match changes:
            case {"done": int(step)}:
                self._done = step
                if step == self._allow_at:
                    assert self._store.begun.wait(BOUND_SECONDS), "no upload has begun"
                    self._store.allowed.set()
            case {"checkpoint_step": int(step)}:
                self.complete.append((step, self._done))
        super().update(**changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, TrainResult]:
    made = world(tmp_path_factory.mktemp("whole"), checkpoint={"every": 2, "keep": "all"})
    return made, made.train()


def fresh(whole: tuple[World, TrainResult], root: Path) -> World:
    left = whole[0].copy(root)
    left.store.delete(f"trainings/{left.arguments.key}")
    return left


@contextmanager
def slowly(made: World, step: int) -> Iterator[tuple[World, SlowStore]]:
    """The same on a store that keeps the checkpoint of a step waiting."""
    store = SlowStore(made.store.root, OPTIMIZER.format(step))
    try:
        yield replace(made, store=store), store
    finally:
        store.allowed.set()


def test_steps_go_on_while_a_checkpoint_is_sent(whole: tuple[World, TrainResult], tmp_path: Path) -> None:
    with slowly(fresh(whole, tmp_path), 2) as (left, store):
        reporter = Watching(left, store, allow_at=4)
        result = left.train_with(reporter)
    assert [step for step, _ in reporter.complete] == [2, 4]
    assert reporter.complete[0][1] >= 4
    assert result.adapter.digest == whole[1].adapter.digest
    assert left.checkpoints() == [2, 4]
    assert left.metrics() == whole[0].metrics()


def test_a_training_that_is_asked_to_stop_waits_until_all_is_sent(
    whole: tuple[World, TrainResult], tmp_path: Path
) -> None:
    with slowly(fresh(whole, tmp_path), 2) as (left, store):
        with pytest.raises(StageError) as stopped:
            left.train_with(Watching(left, store, allow_at=3, stop_at=3))
        assert stopped.value.reason is Reason.PREEMPTED
        assert stopped.value.checkpoint == 3
        assert left.checkpoints() == [2, 3]
    assert left.train().adapter.digest == whole[1].adapter.digest


def test_a_checkpoint_that_can_not_be_sent_ends_the_training_at_a_later_step(
    whole: tuple[World, TrainResult], tmp_path: Path
) -> None:
    left = fresh(whole, tmp_path)
    broken = replace(left, store=BrokenStore(left.store.root, OPTIMIZER.format(4)))
    with pytest.raises(StageError, match="there is no room") as failed:
        broken.train()
    assert failed.value.reason is Reason.STORAGE_FULL
    assert failed.value.checkpoint == 2
    assert left.checkpoints() == [2]
    assert not (left.place / "manifest.json").exists()
    assert left.train().adapter.digest == whole[1].adapter.digest


class Failing(Reporter):
    """Ends the training at a step, with a failure of its own."""

    def __init__(self, made: World, store: SlowStore, step: int) -> None:
        super().__init__("train", made.root / PROGRESS)
        self._store, self._step = store, step

    def update(self, **changes: Any) -> None:
        super().update(**changes)
        if changes.get("done") == self._step:
            assert self._store.begun.wait(BOUND_SECONDS), "no upload has begun"
            threading.Timer(0.2, self._store.allowed.set).start()
            raise StageError(Reason.LOSS_DIVERGED, "it did")


def test_a_training_that_fails_leaves_the_checkpoint_that_is_on_its_way(
    whole: tuple[World, TrainResult], tmp_path: Path
) -> None:
    with slowly(fresh(whole, tmp_path), 2) as (left, store):
        with pytest.raises(StageError, match="it did") as failed:
            left.train_with(Failing(left, store, 3))
        assert failed.value.checkpoint == 2
        assert left.checkpoints() == [2]
