"""Of two attempts that are alive at once, the older one takes nothing from what the newer one has written."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import ModelStatus
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store import Advance, Store, Stored, ignore_progress
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.train.checkpoints import Checkpoints, is_kept
from lorafinetune_stages.train.fence import Fence
from lorafinetune_stages.train.last_checkpoint import LastCheckpoint
from lorafinetune_stages.train.state_store import StateWriter
from lorafinetune_stages.train.states import State, states_at
from lorafinetune_stages.train.uploads import Uploads

MODEL = ModelStatus(source="hf://owner/model", revision="c0ffee", digest="d" * 64, bytes=1)
URI: Final = "s3://bucket/runs"
BOUND_SECONDS: Final = 30
STEP: Final = 4
HELD: Final = "optimizer.pt"


class Frozen(DirectoryStore):
    """Of one attempt that is frozen in the middle of a file, or before one is removed, until it is woken."""

    def __init__(self, root: Path, within: str = "", before_removing: str = "") -> None:
        super().__init__(root, URI)
        self.begun, self.woken = threading.Event(), threading.Event()
        self._within, self._before_removing = within, before_removing

    def upload(self, path: Path, key: str, advance: Advance = ignore_progress) -> Stored:
        def moved(count: int) -> None:
            if self._within and key.endswith(self._within):
                self._freeze()
            advance(count)

        return super().upload(path, key, moved)

    def delete(self, prefix: str) -> None:
        if self._before_removing and prefix.endswith(self._before_removing):
            self._freeze()
        super().delete(prefix)

    def _freeze(self) -> None:
        self.begun.set()
        assert self.woken.wait(BOUND_SECONDS), "nobody woke it"


def attempt(store: Store) -> StateWriter:
    """The next one at the training."""
    return StateWriter(store, "t/checkpoints", "checkpoint", "a" * 64, MODEL, is_kept, Fence(store, "t"))


def made(root: Path, content: str) -> Path:
    """A checkpoint as the trainer leaves it. content: what tells it from another."""
    root.mkdir()
    (root / "adapter_config.json").write_text(json.dumps({"target_modules": ["q_proj"]}))
    (root / HELD).write_text(content)
    return root


def send(saved: StateWriter, root: Path, content: str, step: int = STEP) -> None:
    saved.send(made(root, content), step, {})


def begun(store: Frozen) -> None:
    assert store.begun.wait(BOUND_SECONDS), "it was not frozen"


def ends_superseded(older: Callable[[], None], store: Frozen, meanwhile: Callable[[], None]) -> None:
    """Has something happen while an attempt is frozen, and then wakes it."""
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(older)
        try:
            begun(store)
            meanwhile()
        finally:
            store.woken.set()
        with pytest.raises(StageError) as ended:
            ending.result(BOUND_SECONDS)
    assert ended.value.reason is Reason.SUPERSEDED


def fetched(store: Store, state: State, root: Path) -> str:
    notes = attempt(store).fetch(state, root)
    assert notes is not None
    assert notes["attempt"] == state.attempt
    return (root / HELD).read_text()


def test_one_that_wakes_in_the_middle_of_a_file_spoils_no_checkpoint_of_its_successor(tmp_path: Path) -> None:
    frozen, store = Frozen(tmp_path / "store", within=HELD), DirectoryStore(tmp_path / "store", URI)
    older = attempt(frozen)
    ends_superseded(
        lambda: send(older, tmp_path / "older", "of the older one"),
        frozen,
        lambda: send(attempt(store), tmp_path / "newer", "of the newer one"),
    )
    found = states_at(store, "t/checkpoints")
    assert [state for state, is_whole in found.items() if is_whole] == [State(STEP, 2)]
    assert fetched(store, State(STEP, 2), tmp_path / "fetched") == "of the newer one"


def test_one_that_wakes_while_it_rotates_removes_nothing_of_its_successor(tmp_path: Path) -> None:
    frozen = Frozen(tmp_path / "store", before_removing="manifest.json")
    store = DirectoryStore(tmp_path / "store", URI)
    older = attempt(frozen)
    for step in (1, 2):
        send(older, tmp_path / f"older-{step}", "of the older one", step)
    uploads = Uploads()

    def goes_on() -> None:
        checkpoints = Checkpoints(older, 1, None, LastCheckpoint(tmp_path), uploads)
        checkpoints.save(made(tmp_path / "older", "of the older one"), 3, {}, True, lambda _: None)
        uploads.wait()

    ends_superseded(goes_on, frozen, lambda: send(attempt(store), tmp_path / "newer", "of the newer one"))
    assert fetched(store, State(STEP, 2), tmp_path / "fetched") == "of the newer one"


def test_a_newer_one_writes_the_checkpoint_that_an_older_one_completed_meanwhile(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store", URI)
    for content in ("of the older one", "of the newer one"):
        send(attempt(store), tmp_path / content, content)
    found = Checkpoints(attempt(store), 1, None, LastCheckpoint(tmp_path), Uploads()).newest(
        tmp_path / "resume"
    )
    assert found
    assert (found.state, (found.directory / HELD).read_text()) == (State(STEP, 2), "of the newer one")


def test_the_older_ones_will_do_where_that_of_the_newer_is_damaged(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store", URI)
    for content in ("of the older one", "of the newer one"):
        send(attempt(store), tmp_path / content, content)
    store.write(f"t/checkpoints/{STEP}/2/{HELD}", b"of nobody")
    found = Checkpoints(attempt(store), 1, None, LastCheckpoint(tmp_path), Uploads()).newest(
        tmp_path / "resume"
    )
    assert found
    assert (found.state, (found.directory / HELD).read_text()) == (State(STEP, 1), "of the older one")


def of_an_older_version(store: DirectoryStore, saved: StateWriter, root: Path) -> None:
    """Moves a checkpoint of the first attempt to where they lay before each attempt had its path."""
    send(saved, root, "of an older version")
    place = store.root / "t" / "checkpoints" / str(STEP)
    for path in (place / "1").iterdir():
        path.rename(place / path.name)
    (place / "1").rmdir()


def test_what_an_older_version_left_is_gone_on_from_and_removed_alone(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store", URI)
    of_an_older_version(store, attempt(store), tmp_path / "old")
    saved = attempt(store)
    found = Checkpoints(saved, 1, None, LastCheckpoint(tmp_path), Uploads()).newest(tmp_path / "resume")
    assert found
    assert found.step == STEP
    send(saved, tmp_path / "new", "of this one")
    assert list(saved.states()) == [State(STEP, 2), State(STEP, 0)]
    saved.remove(State(STEP, 0))
    assert states_at(store, "t/checkpoints") == {State(STEP, 2): True}
    assert fetched(store, State(STEP, 2), tmp_path / "fetched") == "of this one"


@pytest.mark.parametrize(
    ("key", "found"),
    [
        pytest.param("4/2/manifest.json", {State(4, 2): True}, id="a complete one"),
        pytest.param("4/2/optimizer.pt", {State(4, 2): False}, id="one whose upload was cut"),
        pytest.param("4/manifest.json", {State(4, 0): True}, id="one of an older version"),
        pytest.param("4/two/manifest.json", {}, id="an attempt without a number"),
        pytest.param("²/2/manifest.json", {}, id="a number that is none to us"),
        pytest.param("4/2/deeper/manifest.json", {}, id="a manifest in another place"),
        pytest.param("manifest.json", {}, id="a manifest that is of no step"),
    ],
)
def test_what_lies_in_the_store_is_taken_for(tmp_path: Path, key: str, found: dict[State, bool]) -> None:
    store = DirectoryStore(tmp_path / "store", URI)
    store.write(f"t/checkpoints/{key}", b"")
    assert states_at(store, "t/checkpoints") == found
