"""Whole directories: verified, bounded, and over at the first failure."""

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store import PARTS_AT_ONCE, Advance, Chunk, Stored, ignore_progress
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.manifest import Manifest, commit_manifest
from lorafinetune_stages.store.transfer import download_tree, upload_tree

KEY = "0" * 64
PLACE = f"models/{KEY}"
MEBIBYTE = 2**20


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def uploaded(store: DirectoryStore, root: Path) -> Manifest:
    return commit_manifest(store, PLACE, "model", KEY, upload_tree(store, root, PLACE), {}, None)


def test_files_are_listed_by_path_and_progress_counts_every_byte(
    store: DirectoryStore, tmp_path: Path
) -> None:
    root = tree(tmp_path / "up", {"b": b"22", "a/z": b"1", "a-b": b"", "c": b"x" * 3 * MEBIBYTE})
    moved: list[int] = []
    files = upload_tree(store, root, PLACE, moved.append)
    assert [(file.path, file.size) for file in files] == [
        ("a-b", 0),
        ("a/z", 1),
        ("b", 2),
        ("c", 3 * MEBIBYTE),
    ]
    assert sum(moved) == 3 * MEBIBYTE + 3


def test_the_largest_file_goes_first(store: DirectoryStore, tmp_path: Path) -> None:
    root = tree(tmp_path / "up", {"a": b"1", "b": b"333", "c": b"22"})
    moved: list[int] = []
    manifest = commit_manifest(
        store, PLACE, "model", KEY, upload_tree(store, root, PLACE, moved.append, workers=1), {}, None
    )
    download_tree(store, PLACE, manifest, tmp_path / "down", moved.append, workers=1)
    assert moved == [3, 2, 1, 3, 2, 1]


def test_an_empty_tree_is_no_files(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "up" / "folder").mkdir(parents=True)
    manifest = uploaded(store, tmp_path / "up")
    download_tree(store, PLACE, manifest, tmp_path / "down")
    assert manifest.files == ()


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        pytest.param(b"contenX", "7 bytes with sha256 ", id="another content"),
        pytest.param(b"content and more", "16 bytes with sha256 ", id="another size"),
    ],
)
def test_a_damaged_file_is_named_and_removed(
    store: DirectoryStore, tmp_path: Path, damage: bytes, found: str
) -> None:
    manifest = uploaded(store, tree(tmp_path / "up", {"deep/weights": b"content"}))
    store.write(f"{PLACE}/deep/weights", damage)
    with pytest.raises(StageError) as refused:
        download_tree(store, PLACE, manifest, tmp_path / "down")
    assert refused.value.reason is Reason.ARTIFACT_CORRUPT
    assert refused.value.message.startswith(
        f"{store.uri}/{PLACE}: the file deep/weights does not match manifest.json: {found}"
    )
    assert not (tmp_path / "down" / "deep" / "weights").exists()


def test_a_missing_file_is_named(store: DirectoryStore, tmp_path: Path) -> None:
    manifest = uploaded(store, tree(tmp_path / "up", {"weights": b"content"}))
    store.delete(f"{PLACE}/weights")
    with pytest.raises(StageError) as refused:
        download_tree(store, PLACE, manifest, tmp_path / "down")
    assert refused.value.reason is Reason.ARTIFACT_CORRUPT
    assert refused.value.message == f"{store.uri}/{PLACE}/weights does not exist"


class FailingStore(DirectoryStore):
    """Refuses one file once another is on its way; that one would take for ever."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.on_its_way = threading.Event()
        self.started: list[str] = []

    def put(
        self,
        key: str,
        chunks: Iterable[Chunk],
        advance: Advance = ignore_progress,
        at_once: int = PARTS_AT_ONCE,
    ) -> Stored:
        self.started.append(key.rpartition("/")[2])
        if key.endswith("/refused"):
            assert self.on_its_way.wait(10)
            raise StageError(Reason.STORAGE_FULL, "full")
        return super().put(key, self._endless(), advance)

    def _endless(self) -> Iterator[bytes]:
        for _ in range(100_000):
            yield b"x"
            self.on_its_way.set()


def test_one_failure_stops_the_others_and_is_the_one_that_is_raised(tmp_path: Path) -> None:
    root = tree(tmp_path / "up", {"refused": b"333", "slow": b"22", "never": b"1"})
    store = FailingStore(tmp_path / "store")
    moved: list[int] = []
    with pytest.raises(StageError, match=r"^full$"):
        upload_tree(store, root, PLACE, moved.append, workers=2)
    assert sorted(store.started) == ["refused", "slow"]
    assert list(store.list("")) == []
    assert sum(moved) < 100_000


def test_links_are_not_uploaded(store: DirectoryStore, tmp_path: Path) -> None:
    root = tree(tmp_path / "up", {"a": b""})
    (root / "link").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="link is neither a file nor a directory"):
        upload_tree(store, root, PLACE)
    assert list(store.list("")) == []


def test_no_file_can_stand_in_for_the_manifest(store: DirectoryStore, tmp_path: Path) -> None:
    root = tree(tmp_path / "up", {"manifest.json": b"{}"})
    with pytest.raises(StageError) as refused:
        upload_tree(store, root, PLACE)
    assert refused.value.reason is Reason.CONFIG_INVALID
    assert refused.value.message == "a file can't be named manifest.json: the store needs the name"
    assert (
        uploaded(store, tree(tmp_path / "deeper", {"a/manifest.json": b"{}"})).files[0].path
        == "a/manifest.json"
    )
