"""The manifest: what is written is what is read, and anything else is refused with its place."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.errors import DamagedError
from lorafinetune_stages.store.manifest import (
    MAX_MANIFEST_BYTES,
    Manifest,
    ManifestFile,
    commit_manifest,
    files_digest,
    find_output,
    read_manifest,
    read_manifest_of,
    verify_present,
    withdraw_manifest,
)
from lorafinetune_stages.store.naming import key_fault
from lorafinetune_stages.store.seal import seal

KEY = "0" * 64
PLACE = f"models/{KEY}"
HASH = "a" * 64

DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
PATHS = st.text(min_size=1, max_size=30).filter(lambda path: not key_fault(path) and path != "manifest.json")
FILES = st.builds(ManifestFile, path=PATHS, size=st.integers(0, 2**53), sha256=DIGESTS)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text(max_size=9), JSON, max_size=4)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def file(path: str = "weights", size: int = 7, sha256: str = HASH) -> ManifestFile:
    return ManifestFile(path=path, size=size, sha256=sha256)


def commit(store: DirectoryStore, *files: ManifestFile, created: str = "2026-01-01T00:00:00Z") -> Manifest:
    return commit_manifest(store, PLACE, "model", KEY, files, {"commit": "abc"}, {"rows": 3}, created)


@given(st.lists(FILES, max_size=5, unique_by=lambda file: file.path), OBJECTS, st.none() | OBJECTS)
def test_what_is_committed_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[ManifestFile],
    lineage: dict[str, Any],
    result: dict[str, Any] | None,
) -> None:
    store = DirectoryStore(tmp_path_factory.mktemp("store"))
    committed = commit_manifest(store, PLACE, "model", KEY, files, lineage, result)
    assert read_manifest(store, PLACE) == committed
    assert committed.digest == files_digest(tuple(reversed(files)))
    assert committed.bytes == sum(file.size for file in files)


def test_what_has_no_manifest_does_not_exist(store: DirectoryStore) -> None:
    store.write(f"{PLACE}/weights", b"content")
    assert read_manifest(store, PLACE) is None
    assert find_output(store, PLACE) is None


def test_the_first_commit_counts(store: DirectoryStore) -> None:
    first = commit(store, created="2026-01-01T00:00:00Z")
    assert commit(store, file(), created="2026-01-02T00:00:00Z") == first
    assert read_manifest(store, PLACE) == first


def test_a_commit_says_when_it_was(store: DirectoryStore) -> None:
    committed = commit_manifest(store, PLACE, "model", KEY, [], {}, None)
    assert len(committed.created) == len("2026-01-01T00:00:00Z")
    assert committed.created.endswith("Z")


def changed(**changes: Any) -> str:
    """The manifest of a version before there were seals."""
    whole: dict[str, Any] = {
        "kind": "model",
        "key": KEY,
        "digest": files_digest((file(),)),
        "files": [{"path": "weights", "size": 7, "sha256": HASH}],
        "lineage": {},
        "created": "2026-01-01T00:00:00Z",
    }
    return json.dumps(whole | changes)


def resealed(**changes: Any) -> str:
    """Changed by whoever seals it anew."""
    content: dict[str, Any] = json.loads(changed(**changes))
    return json.dumps(content | {"seal": seal(content)})


def with_file(**changes: Any) -> str:
    return changed(files=[{"path": "weights", "size": 7, "sha256": HASH} | changes])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("{", ": Invalid JSON: EOF while parsing an object at line 1 column 1", id="cut JSON"),
        pytest.param("[" * 10_000, ": Invalid JSON: recursion limit exceeded", id="JSON too deep"),
        pytest.param("[]", ": Input should be an object", id="no object"),
        pytest.param(changed(more=1), "more: Extra inputs are not permitted", id="an unknown field"),
        pytest.param(changed(created=None), "created: Input should be a valid string", id="a wrong type"),
        pytest.param(
            changed(digest=HASH), "its digest is not that of the files it lists", id="another digest"
        ),
        pytest.param(
            with_file(size=8), "its digest is not that of the files it lists", id="a file of another size"
        ),
        pytest.param(changed(seal=HASH), "its seal is not that of what it says", id="another seal"),
        pytest.param(
            resealed(key="b" * 64),
            "it is the manifest of another output, whose key is bbbb",
            id="the manifest of another output",
        ),
        pytest.param(with_file(size=-1), "files.0.size: ", id="a negative size"),
        pytest.param(
            with_file(path="../../etc/passwd"),
            "files.0.path: not the path of a file: it has the part '..'",
            id="a path out of the store",
        ),
        pytest.param(
            with_file(path="/etc/passwd"),
            "files.0.path: not the path of a file: it is empty, or has an empty part",
            id="an absolute path",
        ),
        pytest.param(
            with_file(path="manifest.json"),
            "files.0.path: not the path of a file: it is the manifest itself",
            id="the manifest as a file of itself",
        ),
        pytest.param(
            changed(files=[{"path": "weights", "size": 7, "sha256": HASH}] * 2),
            "files: the file weights is listed twice",
            id="a file that is listed twice",
        ),
    ],
)
def test_a_broken_manifest_is_named(store: DirectoryStore, text: str, fault: str) -> None:
    store.write(f"{PLACE}/manifest.json", text.encode())
    with pytest.raises(StageError) as refused:
        read_manifest(store, PLACE)
    assert refused.value.reason is Reason.ARTIFACT_CORRUPT
    assert refused.value.message.startswith(f"{store.uri}/{PLACE}/manifest.json: ")
    assert fault in refused.value.message


def test_an_endless_manifest_is_not_read(store: DirectoryStore) -> None:
    store.put(f"{PLACE}/manifest.json", (b" " * 2**20 for _ in range(17)))
    with pytest.raises(StageError) as refused:
        read_manifest(store, PLACE)
    assert refused.value.reason is Reason.ARTIFACT_CORRUPT
    assert f"more than the {MAX_MANIFEST_BYTES} bytes" in refused.value.message


def test_a_path_that_leaves_the_output_is_never_written() -> None:
    with pytest.raises(ValidationError, match=r"it has the part '\.\.'"):
        file("../other/weights")


def test_a_complete_output_is_a_hit(store: DirectoryStore) -> None:
    store.write(f"{PLACE}/weights", b"content")
    store.write(f"{PLACE}/a/more", b"")
    committed = commit(store, file(), file("a/more", 0))
    assert verify_present(store, PLACE, committed)
    assert find_output(store, PLACE) == committed


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        pytest.param(None, "1 of 2 files are missing or cut, first weights", id="a missing file"),
        pytest.param(b"conten", "1 of 2 files are missing or cut, first weights", id="a file that is cut"),
    ],
)
def test_a_damaged_output_exists_again_when_its_stage_has_run_again(
    store: DirectoryStore, caplog: pytest.LogCaptureFixture, damage: bytes | None, told: str
) -> None:
    store.write(f"{PLACE}/more", b"")
    if damage is not None:
        store.write(f"{PLACE}/weights", damage)
    commit(store, file(), file("more", 0))
    with caplog.at_level(logging.WARNING):
        assert find_output(store, PLACE) is None
    assert caplog.messages == [f"{store.uri}/{PLACE}: {told}"]
    assert read_manifest(store, PLACE) is None
    store.write(f"{PLACE}/weights", b"content")
    repaired = commit(store, file(), file("more", 0))
    assert find_output(store, PLACE) == repaired


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{", id="cut JSON"),
        pytest.param(changed(digest=HASH), id="the digest of other files"),
        pytest.param(resealed(digest=HASH), id="the same, sealed"),
        pytest.param(changed(key="b" * 64), id="the key of another output"),
        pytest.param(resealed(key="b" * 64), id="the manifest of another output"),
        pytest.param(changed(seal=HASH), id="the seal of something else"),
        pytest.param(changed(more=1), id="an unknown field, and no seal"),
        pytest.param(changed(seal=HASH, more=1), id="an unknown field, and the seal of something else"),
        pytest.param(changed(more="\ud800"), id="half a character"),
    ],
)
def test_a_damaged_manifest_is_no_output_and_does_not_stay(store: DirectoryStore, text: str) -> None:
    store.write(f"{PLACE}/weights", b"content")
    store.write(f"{PLACE}/manifest.json", text.encode())
    assert find_output(store, PLACE) is None
    assert read_manifest(store, PLACE) is None


def test_a_manifest_of_a_later_version_stays(store: DirectoryStore) -> None:
    store.write(f"{PLACE}/manifest.json", (text := resealed(more=1)).encode())
    with pytest.raises(StageError, match="Extra inputs"):
        find_output(store, PLACE)
    assert store.read(f"{PLACE}/manifest.json") == text.encode()


def test_a_manifest_of_before_there_were_seals_is_read(store: DirectoryStore) -> None:
    store.write(f"{PLACE}/weights", b"content")
    store.write(f"{PLACE}/manifest.json", changed(result={"loss": "2.31"}).encode())
    found = find_output(store, PLACE)
    assert found
    assert (found.seal, found.result) == (None, {"loss": "2.31"})


def test_no_bit_of_a_manifest_can_be_another(store: DirectoryStore) -> None:
    """One of each byte, so each digit, brace and name of a field is hurt."""
    store.write(f"{PLACE}/weights", b"content")
    commit(store, file())
    whole = store.read(f"{PLACE}/manifest.json") or b""
    for at in range(len(whole)):
        harmed = bytearray(whole)
        harmed[at] ^= 1 << at % 7
        store.write(f"{PLACE}/manifest.json", bytes(harmed))
        assert find_output(store, PLACE) is None, harmed
        assert store.find(f"{PLACE}/manifest.json") is None, harmed


class HurtOnce(DirectoryStore):
    """What is read of it first is not what it has."""

    reads = 0

    def read(self, key: str, limit: int = MAX_MANIFEST_BYTES) -> bytes | None:
        self.reads += 1
        data = super().read(key, limit)
        return data.replace(b"abc", b"abb") if data and self.reads == 1 else data


def test_a_manifest_that_was_hurt_on_its_way_is_read_again(store: DirectoryStore) -> None:
    committed = commit(store)
    hurting = HurtOnce(store.root)
    assert read_manifest(hurting, PLACE) == committed
    assert hurting.reads == 2


def test_a_place_may_end_with_something_else_than_the_key(store: DirectoryStore) -> None:
    committed = commit_manifest(store, "trainings/k/checkpoints/3/1", "checkpoint", KEY, [], {}, None)
    assert read_manifest_of(store, "trainings/k/checkpoints/3/1", KEY) == committed
    with pytest.raises(DamagedError, match="the manifest of another output"):
        read_manifest_of(store, "trainings/k/checkpoints/3/1", "b" * 64)


def test_a_withdrawn_output_keeps_its_files(store: DirectoryStore) -> None:
    store.write(f"{PLACE}/weights", b"content")
    commit(store, file())
    withdraw_manifest(store, PLACE)
    assert [entry.key for entry in store.list("")] == [f"{PLACE}/weights"]
