"""What is particular to a directory: links, leftovers of killed writers, full disks, the missing bucket."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.api.sources import Connection
from lorafinetune.contract.arguments import STORE_DIRECTORY_VARIABLE
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.errors import file_system_errors
from lorafinetune_stages.store.factory import open_store
from lorafinetune_stages.store.naming import RESERVED
from lorafinetune_stages.store.partial import MIN_LEFTOVER_SECONDS, Partial

CONNECTION = Connection(name="store", endpoint="http://s3.example")


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def test_links_lead_nowhere(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    store.write("a/x", b"")
    (store.root / "a" / "file").symlink_to(tmp_path / "secret")
    (store.root / "a" / "folder").symlink_to(tmp_path)
    for key in ("a/file", "a/folder/secret", "a/folder/new"):
        for operation in (store.find, store.read, store.delete, lambda key: store.write(key, b"overwritten")):
            with pytest.raises(StageError) as refused:
                operation(key)
            assert refused.value.reason is Reason.STORAGE_DENIED
            assert refused.value.message == f"{store.uri}/{key} leads through a symbolic link"
    with pytest.raises(StageError, match="a/file leads through a symbolic link"):
        list(store.list("a"))
    store.delete("a")
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "store"]


def test_what_many_remove_at_once_is_gone_and_no_error(store: DirectoryStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            for number in range(50):
                store.write(f"a/{number}/file", b"")
            list(pool.map(store.delete, ["a"] * 4))
            assert list(store.list("")) == []


def test_pipes_are_no_objects_and_do_not_block(store: DirectoryStore) -> None:
    store.write("a/x", b"")
    os.mkfifo(store.root / "a" / "pipe")
    assert store.find("a/pipe") is None
    assert store.read("a/pipe") is None
    assert [entry.key for entry in store.list("a")] == ["a/x"]


def test_what_is_being_written_is_not_seen(store: DirectoryStore) -> None:
    def watching() -> Iterator[bytes]:
        yield b"first half"
        assert list(store.list("")) == []
        assert store.find("a") is None
        yield b"second half"

    store.put("a", watching())
    assert store.read("a") == b"first halfsecond half"
    assert list((store.root / RESERVED).iterdir()) == []


def test_leftovers_of_killed_writers_are_removed_and_living_writers_are_not(store: DirectoryStore) -> None:
    store.write("a", b"")
    left = store.root / RESERVED / "left"
    left.write_bytes(b"of a killed writer")
    age(left)
    going_on, halfway = threading.Event(), threading.Event()

    def slowly() -> Iterator[bytes]:
        yield b"1"
        halfway.set()
        going_on.wait(10)
        yield b"2"

    writer = threading.Thread(target=store.put, args=("slow", slowly()))
    writer.start()
    assert halfway.wait(10)
    for path in (store.root / RESERVED).iterdir():
        age(path)
    DirectoryStore(store.root).write("b", b"")
    going_on.set()
    writer.join(10)
    assert not left.exists()
    assert store.read("slow") == b"12"


def test_a_young_leftover_is_left_for_its_writer_to_lock(store: DirectoryStore) -> None:
    store.write("a", b"")
    young = store.root / RESERVED / "young"
    young.write_bytes(b"")
    DirectoryStore(store.root).write("b", b"")
    assert young.exists()


def age(path: Path) -> None:
    past = time.time() - MIN_LEFTOVER_SECONDS - 1
    os.utime(path, (past, past))


def test_a_full_disk_is_a_full_store() -> None:
    with pytest.raises(StageError) as refused, Path("/dev/full").open("wb", buffering=0) as full:
        Partial(full, Path("/dev/full"), "s3://bucket/a").write(b"content")
    assert refused.value.reason is Reason.STORAGE_FULL
    assert refused.value.message == "s3://bucket/a: No space left on device"


def test_a_directory_that_may_not_be_written_is_denied() -> None:
    store = DirectoryStore(Path("/sys/store"))
    with pytest.raises(StageError) as refused:
        store.write("a", b"")
    assert refused.value.reason is Reason.STORAGE_DENIED
    assert refused.value.message.startswith("file:///sys/store/a: ")


def test_a_store_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = DirectoryStore(tmp_path / "file")
    with pytest.raises(StageError) as refused:
        store.write("a", b"")
    assert refused.value.reason is Reason.CONFIG_INVALID
    assert refused.value.message == f"file://{tmp_path}/file/a: Not a directory"
    assert store.find("a") is None
    assert list(store.list("")) == []


def test_an_unknown_fault_stays_a_fault() -> None:
    with pytest.raises(BlockingIOError), file_system_errors("s3://bucket/a"):
        raise BlockingIOError(11, "Resource temporarily unavailable")


def test_a_callers_own_fault_is_not_the_stores(store: DirectoryStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.upload(tmp_path / "missing", "a")
    store.write("a", b"content")
    with pytest.raises(FileNotFoundError):
        store.download("a", tmp_path / "missing" / "a")


def test_s3_is_a_directory_in_local_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE_DIRECTORY_VARIABLE, str(tmp_path))
    (tmp_path / "bucket").mkdir()
    store = open_store("s3://bucket/team/runs", CONNECTION)
    store.write("a", b"content")
    assert store.uri == "s3://bucket/team/runs"
    assert (tmp_path / "bucket" / "team" / "runs" / "a").read_bytes() == b"content"
    assert [entry.key for entry in open_store("s3://bucket", None).list("")] == ["team/runs/a"]


def test_a_missing_bucket_is_named_in_local_runs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE_DIRECTORY_VARIABLE, str(tmp_path))
    store = open_store("s3://bucket/runs", CONNECTION)
    for operation in (
        store.find,
        store.read,
        lambda key: store.write(key, b""),
        lambda key: list(store.list(key)),
    ):
        with pytest.raises(StageError) as refused:
            operation("a")
        assert refused.value.reason is Reason.CONFIG_INVALID
        assert refused.value.message == f"s3://bucket/runs: the bucket bucket does not exist in {tmp_path}"
    assert list(tmp_path.iterdir()) == []


def test_a_file_uri_is_taken_to_the_letter(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/模型 %20", None)
    store.write("a", b"content")
    assert (tmp_path / "模型 %20" / "a").read_bytes() == b"content"
    assert store.uri == f"file://{tmp_path}/模型 %20"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://bucket/../other", "'s3://bucket/../other' can't be used: it has the part '..'"),
        ("s3://bucket//x", "'s3://bucket//x' can't be used: it is empty, or has an empty part"),
        ("s3://../x", "'s3://../x' can't be used: it has the part '..'"),
        ("s3://", "'s3://' can't be used: it is empty, or has an empty part"),
        ("file://", "'file://' is no URI of a store: s3://BUCKET/PREFIX is"),
        ("gs://bucket/x", "'gs://bucket/x' is no URI of a store: s3://BUCKET/PREFIX is"),
        ("/bucket\n", "'/bucket\\n' is no URI of a store: s3://BUCKET/PREFIX is"),
    ],
)
def test_a_uri_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uri: str, message: str
) -> None:
    monkeypatch.setenv(STORE_DIRECTORY_VARIABLE, str(tmp_path))
    with pytest.raises(StageError) as refused:
        open_store(uri, None)
    assert refused.value.reason is Reason.CONFIG_INVALID
    assert refused.value.message == message
