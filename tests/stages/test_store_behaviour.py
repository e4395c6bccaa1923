"""What a store promises, held against both: the directory, and S3 at a real server."""

import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.s3server import S3Server
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store import Store, Stored
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.manifest import Manifest, commit_manifest, find_output, read_manifest
from lorafinetune_stages.store.transfer import download_tree, upload_tree
from stages.store_builders import MEBIBYTE, content, in_pieces, new_bucket, s3_store

NO_FILES_DIGEST = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> str:
    return new_bucket(s3_server)


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "directory":
        return DirectoryStore(tmp_path / "store")
    server: S3Server = request.getfixturevalue("s3_server")
    return s3_store(server, monkeypatch, request.getfixturevalue("bucket"), uuid.uuid4().hex)


def keys_of(store: Store, prefix: str = "") -> list[str]:
    return [entry.key for entry in store.list(prefix)]


def stored(data: bytes) -> Stored:
    return Stored(len(data), hashlib.sha256(data).hexdigest())


def test_what_is_written_is_found_read_and_listed(store: Store) -> None:
    store.write("models/a/x", b"content")
    found = store.find("models/a/x")
    assert found is not None
    assert (found.key, found.size) == ("models/a/x", 7)
    assert time.time() - 60 < found.modified < time.time() + 60
    assert store.read("models/a/x") == b"content"
    assert list(store.list("models")) == [found]


def test_what_is_missing_is_none_empty_or_corrupt(store: Store, tmp_path: Path) -> None:
    assert store.find("a/x") is None
    assert store.read("a/x") is None
    assert keys_of(store, "a") == []
    store.delete("a")
    for missing in (read_to_the_end, lambda store: store.download("a/x", tmp_path / "x")):
        with pytest.raises(StageError) as refused:
            missing(store)
        assert refused.value.reason is Reason.ARTIFACT_CORRUPT
        assert refused.value.message == f"{store.uri}/a/x does not exist"
    assert not (tmp_path / "x").exists()


def read_to_the_end(store: Store) -> None:
    with store.open("a/x") as stream:
        stream.read()


def test_a_directory_is_no_object(store: Store) -> None:
    store.write("a/x", b"")
    assert store.find("a") is None
    assert store.read("a") is None


def test_a_small_object_that_is_too_large_is_refused(store: Store) -> None:
    store.write("a", b"12345")
    assert store.read("a", limit=5) == b"12345"
    with pytest.raises(StageError) as refused:
        store.read("a", limit=4)
    assert refused.value.reason is Reason.ARTIFACT_CORRUPT
    assert refused.value.message == f"{store.uri}/a has more than the 4 bytes that such a file may have"


def test_the_first_create_wins(store: Store) -> None:
    assert store.create("a/claim", b"first")
    assert not store.create("a/claim", b"second")
    assert store.read("a/claim") == b"first"


def test_of_16_concurrent_creates_one_wins(store: Store) -> None:
    barrier = threading.Barrier(16)

    def claim(number: int) -> bool:
        barrier.wait(30)
        return store.create("a/claim", str(number).encode())

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(claim, range(16)))
    assert won.count(True) == 1
    assert store.read("a/claim") == str(won.index(True)).encode()
    assert keys_of(store) == ["a/claim"]


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(0, id="an empty object"),
        pytest.param(1, id="one byte"),
        pytest.param(8 * MEBIBYTE - 1, id="a byte less than a part"),
        pytest.param(8 * MEBIBYTE, id="exactly a part"),
        pytest.param(16 * MEBIBYTE + 5, id="three parts"),
    ],
)
def test_a_file_comes_back_with_its_exact_hash(store: Store, tmp_path: Path, size: int) -> None:
    data = content(size)
    (tmp_path / "up").write_bytes(data)
    up: list[int] = []
    down: list[int] = []
    assert store.upload(tmp_path / "up", "a/file", up.append) == stored(data)
    assert store.download("a/file", tmp_path / "down", down.append) == stored(data)
    assert (tmp_path / "down").read_bytes() == data
    assert (sum(up), sum(down)) == (size, size)


@pytest.mark.parametrize("size", [0, 3, 40 * MEBIBYTE + 3], ids=["empty", "small", "three parts"])
def test_a_stream_is_put_with_its_exact_hash(store: Store, size: int) -> None:
    data = content(size)
    assert store.put("a/stream", in_pieces(data)) == stored(data)
    with store.open("a/stream") as stream:
        assert stored(stream.read()) == stored(data)


def test_a_put_replaces_and_changes_the_version(store: Store) -> None:
    store.put("a", [b"old"])
    before = store.find("a")
    store.put("a", [b"new"])
    after = store.find("a")
    assert store.read("a") == b"new"
    assert before is not None
    assert after is not None
    assert before.version != after.version


@pytest.mark.parametrize("size", [3, 40 * MEBIBYTE], ids=["before the first part", "in the third part"])
def test_a_stream_that_breaks_leaves_what_was_there(store: Store, size: int) -> None:
    def breaking() -> Iterator[bytes]:
        yield from in_pieces(content(size))
        raise ConnectionResetError("the hub hung up")

    store.write("a", b"old")
    with pytest.raises(ConnectionResetError, match="the hub hung up"):
        store.put("a", breaking())
    with pytest.raises(ConnectionResetError, match="the hub hung up"):
        store.put("b", breaking())
    assert keys_of(store) == ["a"]
    assert store.read("a") == b"old"


@pytest.mark.parametrize(
    "offset",
    [
        pytest.param(0, id="the start"),
        pytest.param(5, id="in the first part"),
        pytest.param(8 * MEBIBYTE, id="where the second part starts"),
        pytest.param(17 * MEBIBYTE, id="in the third part"),
        pytest.param(20 * MEBIBYTE, id="the end"),
        pytest.param(20 * MEBIBYTE + 9, id="behind the end"),
    ],
)
def test_an_object_is_read_from_any_offset(store: Store, offset: int) -> None:
    data = content(20 * MEBIBYTE)
    store.put("a", in_pieces(data))
    with store.open("a", offset) as stream:
        assert stream.read(3) == data[offset : offset + 3]
        assert stream.read() == data[offset + 3 :]


def test_a_listing_is_in_byte_order_and_stops_at_the_slash(store: Store) -> None:
    keys = ["m/a!", "m/a-b", "m/a.b/x", "m/a/b/y", "m/a/x", "m/ab", "m/é", "m/中", "n"]
    for key in reversed(keys):
        store.write(key, key.encode())
    assert keys_of(store) == keys
    assert keys_of(store, "m") == keys[:-1]
    assert keys_of(store, "m/a") == ["m/a/b/y", "m/a/x"]
    assert keys_of(store, "m/a-b") == ["m/a-b"]
    assert [entry.size for entry in store.list("m/a")] == [7, 5]


def test_a_listing_of_more_than_a_page_is_whole(store: Store) -> None:
    keys = [f"a/{number:04}" for number in range(1003)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.write(key, b""), keys))
    assert keys_of(store, "a") == keys


def test_a_deletion_stops_at_the_slash(store: Store) -> None:
    for key in ("m/a/b/y", "m/a/x", "m/a-b", "m/ab", "m/c"):
        store.write(key, b"")
    store.delete("m/a")
    store.delete("m/c")
    assert keys_of(store) == ["m/a-b", "m/ab"]


@pytest.mark.parametrize(
    "key",
    [
        "a b",
        " a ",
        "a%2Fb",
        "a#?&=+",
        "~{}[]^`|<>\"';,:@!$()*",
        "a\\b",
        "...",
        "..a",
        ".hidden",
        "模型 权重.safetensors",
        "e\u0301-é",
        "🐳\u200d",
        "x" * 255,
    ],
)
def test_an_odd_name_is_kept_to_the_byte(store: Store, tmp_path: Path, key: str) -> None:
    (tmp_path / "up").write_bytes(b"1")
    store.upload(tmp_path / "up", f"odd/{key}")
    store.create(f"even/{key}", b"22")
    assert keys_of(store) == [f"even/{key}", f"odd/{key}"]
    assert store.read(f"odd/{key}") == b"1"
    assert store.read(f"even/{key}") == b"22"
    store.delete(f"even/{key}")
    assert keys_of(store) == [f"odd/{key}"]


HOSTILE = {
    "": "it is empty, or has an empty part",
    "/etc/passwd": "it is empty, or has an empty part",
    "a//b": "it is empty, or has an empty part",
    "a/": "it is empty, or has an empty part",
    "..": "it has the part '..'",
    "../a": "it has the part '..'",
    "a/../../b": "it has the part '..'",
    "./a": "it has the part '.'",
    "a\0b": "it has a control character",
    "a\nb": "it has a control character",
    "a\x7fb": "it has a control character",
    "a\ud800b": "it has a control character",
    "x" * 256: "a part of it has more than 255 bytes",
    "/".join(["x" * 200] * 5): "it has more than 900 bytes",
    ".lorafinetune/x": "the part '.lorafinetune' is kept for the store itself",
    "a/.lorafinetune/x": "the part '.lorafinetune' is kept for the store itself",
}

OPERATIONS: dict[str, Callable[[Store, str, Path], object]] = {
    "find": lambda store, key, path: store.find(key),
    "read": lambda store, key, path: store.read(key),
    "open": lambda store, key, path: store.open(key).__enter__(),
    "create": lambda store, key, path: store.create(key, b""),
    "write": lambda store, key, path: store.write(key, b""),
    "put": lambda store, key, path: store.put(key, [b""]),
    "upload": lambda store, key, path: store.upload(path, key),
    "download": lambda store, key, path: store.download(key, path / "down"),
    "delete": lambda store, key, path: store.delete(key),
    "list": lambda store, key, path: list(store.list(key)),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_hostile_key_is_refused_by_every_operation(store: Store, tmp_path: Path, operation: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"")
    for key, fault in HOSTILE.items():
        if (operation, key) == ("list", ""):
            continue
        with pytest.raises(StageError) as refused:
            OPERATIONS[operation](store, key, source)
        assert refused.value.reason is Reason.CONFIG_INVALID
        assert refused.value.message.startswith(f"{store.uri}: '")
        assert refused.value.message.endswith(f" can't be the name of a file: {fault}")
        assert refused.value.message.isprintable()


def test_an_object_where_a_directory_is_needed_is_named(store: Store) -> None:
    store.write("a", b"")
    with pytest.raises(StageError) as refused:
        store.write("a/b", b"")
    assert refused.value.reason is Reason.CONFIG_INVALID
    assert refused.value.message.startswith(f"{store.uri}/a/b: ")


KEY = "0" * 64
PLACE = f"m/{KEY}"


def commit(store: Store, created: str) -> Manifest:
    return commit_manifest(store, PLACE, "model", KEY, (), {}, None, created)


def test_of_16_concurrent_commits_all_return_the_winners(store: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        commits = list(pool.map(lambda number: commit(store, f"2026-01-01T00:00:{number:02}Z"), range(16)))
    assert {commit.created for commit in commits} == {commits[0].created}
    assert read_manifest(store, PLACE) == commits[0]
    assert commits[0].digest == NO_FILES_DIGEST


def test_a_tree_goes_up_and_comes_back(store: Store, tmp_path: Path) -> None:
    tree = {
        "config.json": b"{}",
        "deep/er/weights": content(9 * MEBIBYTE),
        "empty": b"",
        "名.txt": "名".encode(),
    }
    for name, data in tree.items():
        (tmp_path / "up" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / name).write_bytes(data)
    files = upload_tree(store, tmp_path / "up", PLACE)
    assert {file.path: Stored(file.size, file.sha256) for file in files} == {
        name: stored(data) for name, data in tree.items()
    }
    commit_manifest(store, PLACE, "model", KEY, files, {}, None)
    manifest = find_output(store, PLACE)
    assert manifest is not None
    download_tree(store, PLACE, manifest, tmp_path / "down")
    came = {path.relative_to(tmp_path / "down").as_posix(): path for path in (tmp_path / "down").rglob("*")}
    assert {name: path.read_bytes() for name, path in came.items() if path.is_file()} == tree
