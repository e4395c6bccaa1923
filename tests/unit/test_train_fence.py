"""Attempts are numbered by the store, and only the newest goes on."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.train.fence import Fence

PLACE = "trainings/a"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def test_the_newest_attempt_stops_the_older_ones(store: DirectoryStore) -> None:
    first, second = Fence(store, PLACE), Fence(store, PLACE)
    second.check()
    with pytest.raises(StageError) as caught:
        first.check()
    assert caught.value.reason is Reason.SUPERSEDED
    assert caught.value.message == "this is attempt 1 at the training, and attempt 2 has begun elsewhere"


def test_what_fails_because_a_newer_attempt_removed_it_is_superseded(store: DirectoryStore) -> None:
    ours = Fence(store, PLACE)
    gone = StageError(Reason.STORAGE_UNAVAILABLE, "gone")

    def fails_after(happens: Callable[[], object]) -> StageError:
        with pytest.raises(StageError) as caught, ours.guard():
            _raise_after(happens, gone)
        return caught.value

    assert fails_after(lambda: None) is gone
    assert fails_after(lambda: Fence(store, PLACE)).reason is Reason.SUPERSEDED


def _raise_after(happens: Callable[[], object], problem: StageError) -> None:
    happens()
    raise problem


def test_another_training_is_no_other_attempt(store: DirectoryStore) -> None:
    ours = Fence(store, PLACE)
    Fence(store, f"{PLACE}b")
    ours.check()


def test_attempts_that_begin_at_once_get_a_number_each(store: DirectoryStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        fences = list(pool.map(lambda _: Fence(store, PLACE), range(32)))
    assert sorted(fence.number for fence in fences) == list(range(1, 33))
