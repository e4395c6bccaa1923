"""How S3 fails, at a real server: every refusal has a reason and names what to mend, and no secret."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.process import run
from cluster.s3server import S3Server
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store.naming import key_fault
from lorafinetune_stages.store.s3 import S3Store
from searching import examples
from stages.store_builders import (
    MEBIBYTE,
    QUICK,
    connection,
    content,
    in_pieces,
    new_bucket,
    s3_store,
    set_keys,
)

KEYS = st.text(min_size=1, max_size=40).filter(lambda key: not key_fault(key))
Operation = Callable[[S3Store, Path], object]

READS: dict[str, Operation] = {
    "find": lambda store, path: store.find("a/x"),
    "read": lambda store, path: store.read("a/x"),
    "list": lambda store, path: list(store.list("a")),
    "download": lambda store, path: store.download("a/x", path / "down"),
}
WRITES: dict[str, Operation] = {
    "create": lambda store, path: store.create("a/x", b"1"),
    "write": lambda store, path: store.write("a/x", b"1"),
    "a small put": lambda store, path: store.put("a/x", [b"1"]),
    "a put in parts": lambda store, path: store.put("a/x", in_pieces(content(20 * MEBIBYTE))),
}
OPERATIONS = READS | WRITES


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> str:
    return new_bucket(s3_server)


@pytest.fixture
def store(s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    return s3_store(s3_server, monkeypatch, bucket)


def refusal(operation: Operation, store: S3Store, path: Path) -> StageError:
    """What an operation is refused with; nothing else may hang on it that could be logged."""
    with pytest.raises(StageError) as refused:
        operation(store, path)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
    return refused.value


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_wrong_secret_is_named(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, operation: str
) -> None:
    store = s3_store(s3_server, monkeypatch, bucket, secret_key="wrong-secret")
    error = refusal(OPERATIONS[operation], store, tmp_path)
    assert error.reason is Reason.CREDENTIALS_INVALID
    assert error.message.startswith(f"s3://{bucket}/team/runs")
    assert error.message.endswith(
        f": the server at {s3_server.endpoint} answered 403 SignatureDoesNotMatch"
        " to the keys in the Secret s3 of the connection store"
    )
    assert "wrong-secret" not in error.message


@pytest.mark.parametrize("operation", ["find", "read"])
def test_an_unknown_key_id_is_named(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, operation: str
) -> None:
    store = s3_store(s3_server, monkeypatch, bucket, access_key="nobody")
    error = refusal(OPERATIONS[operation], store, tmp_path)
    assert error.reason is Reason.CREDENTIALS_INVALID
    assert "answered 403 InvalidAccessKeyId" in error.message


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_missing_bucket_is_named(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, operation: str
) -> None:
    store = s3_store(s3_server, monkeypatch, "no-such-bucket")
    error = refusal(OPERATIONS[operation], store, tmp_path)
    assert error.reason is Reason.CONFIG_INVALID
    assert error.message.startswith("s3://no-such-bucket/team/runs")
    assert error.message.endswith(f": the bucket no-such-bucket does not exist at {s3_server.endpoint}")
    assert error.hint.startswith("Create the bucket, or correct its name")


@pytest.fixture(scope="module")
def crammed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server whose disk has less room than 20 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts a disk")
    disk = tmp_path_factory.mktemp("disk")
    run("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk))
    try:
        with S3Server(disk) as server:
            yield server
    finally:
        run("umount", "--lazy", str(disk))


FILLING: dict[str, Operation] = {
    "a write": lambda store, path: store.write("a/x", content(20 * MEBIBYTE)),
    "a put in parts": WRITES["a put in parts"],
}


@pytest.mark.parametrize("operation", FILLING)
def test_a_full_server_is_told(
    crammed: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, operation: str
) -> None:
    store = s3_store(crammed, monkeypatch, new_bucket(crammed))
    error = refusal(FILLING[operation], store, tmp_path)
    assert error.reason is Reason.STORAGE_FULL
    assert error.message.endswith(f": the server at {crammed.endpoint} answered 507 InsufficientStorage")


@pytest.fixture(scope="session")
def stranger(s3_server: S3Server) -> str:
    s3_server.create_user("stranger", "strangers-secret")
    return "stranger"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_user_without_rights_is_denied(
    s3_server: S3Server,
    bucket: str,
    stranger: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    operation: str,
) -> None:
    store = s3_store(s3_server, monkeypatch, bucket, access_key=stranger, secret_key="strangers-secret")
    error = refusal(OPERATIONS[operation], store, tmp_path)
    assert error.reason is Reason.STORAGE_DENIED
    assert error.message.endswith(
        "answered 403 AccessDenied to the keys in the Secret s3 of the connection store"
    )
    assert error.hint == "Grant read, write and list on the prefix of `spec.storage.uri`."


def test_a_reader_may_read_and_not_write(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket = new_bucket(s3_server)
    s3_server.create_user("reader-of-one", "readers-secret")
    s3_store(s3_server, monkeypatch, bucket).write("a/x", b"content")
    s3_server.let_read("reader-of-one", bucket)
    store = s3_store(s3_server, monkeypatch, bucket, access_key="reader-of-one", secret_key="readers-secret")
    assert [entry.key for entry in store.list("a")] == ["a/x"]
    assert store.read("a/x") == b"content"
    for operation in WRITES.values():
        assert refusal(operation, store, tmp_path).reason is Reason.STORAGE_DENIED


@pytest.fixture
def hypothesis_store(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    return s3_store(s3_server, monkeypatch, new_bucket(s3_server))


@pytest.fixture
def stopped(s3_server: S3Server, store: S3Store) -> Iterator[S3Store]:
    store.write("a/x", b"")
    s3_server.stop()
    yield store
    s3_server.start()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_server_that_is_away_is_named_within_bounds(
    stopped: S3Store, s3_server: S3Server, tmp_path: Path, operation: str
) -> None:
    began = time.monotonic()
    error = refusal(OPERATIONS[operation], stopped, tmp_path)
    assert time.monotonic() - began < 10
    assert error.reason is Reason.STORAGE_UNAVAILABLE
    assert f": no answer from the server at {s3_server.endpoint}" in error.message


def test_an_upload_that_is_cut_off_ends_within_bounds(s3_server: S3Server, store: S3Store) -> None:
    def cut_off() -> Iterator[bytes]:
        yield from in_pieces(content(40 * MEBIBYTE))
        s3_server.stop()
        yield from in_pieces(content(40 * MEBIBYTE))

    began = time.monotonic()
    try:
        with pytest.raises(StageError) as refused:
            store.put("cut/off", cut_off())
    finally:
        s3_server.start()
    assert time.monotonic() - began < 20
    assert refused.value.reason is Reason.STORAGE_UNAVAILABLE
    assert store.find("cut/off") is None


def test_a_download_that_is_cut_off_leaves_no_file(
    s3_server: S3Server, store: S3Store, tmp_path: Path
) -> None:
    def stop_once(_: int) -> None:
        if not moved:
            s3_server.stop()
        moved.append(_)

    moved: list[int] = []
    store.put("big", in_pieces(content(80 * MEBIBYTE)))
    try:
        with pytest.raises(StageError) as refused:
            store.download("big", tmp_path / "down", stop_once)
    finally:
        s3_server.start()
    assert refused.value.reason is Reason.STORAGE_UNAVAILABLE
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_is_replaced_while_it_is_read_is_no_mixture(store: S3Store) -> None:
    store.put("replaced", in_pieces(content(80 * MEBIBYTE, seed=1)))
    with store.open("replaced") as stream:
        stream.read(10)
        store.put("replaced", in_pieces(content(80 * MEBIBYTE, seed=2)))
        with pytest.raises(StageError) as refused:
            stream.read()
    assert refused.value.reason is Reason.STORAGE_UNAVAILABLE
    assert refused.value.message == f"{store.uri}/replaced was replaced while it was read"


def test_uploads_that_killed_writers_left_are_aborted_after_a_day(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = new_bucket(s3_server)
    client = s3_server.client()
    for key in ("team/runs/left", "another/left"):
        client.create_multipart_upload(Bucket=bucket, Key=key)
    client.close()
    s3_store(s3_server, monkeypatch, bucket).put("a", [b""])
    assert uploads(s3_server, bucket) == ["another/left", "team/runs/left"]
    monkeypatch.setattr("lorafinetune_stages.store.s3_control.STALE_UPLOAD", timedelta(hours=-1))
    s3_store(s3_server, monkeypatch, bucket).put("a", [b""])
    assert uploads(s3_server, bucket) == ["another/left"]


def uploads(server: S3Server, bucket: str) -> list[str]:
    client = server.client()
    listed = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    client.close()
    return sorted(upload["Key"] for upload in listed)


def test_another_teams_objects_are_out_of_sight(s3_server: S3Server, bucket: str, store: S3Store) -> None:
    client = s3_server.client()
    client.put_object(Bucket=bucket, Key="team/runs-2/x", Body=b"")
    client.close()
    assert "team/runs-2/x" not in {entry.key for entry in store.list("")}


def test_names_in_a_strangers_bucket_are_refused(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = new_bucket(s3_server)
    client = s3_server.client()
    client.put_object(Bucket=bucket, Key="team/runs/raw/", Body=b"")
    client.put_object(Bucket=bucket, Key="team/runs/raw/a\nb", Body=b"")
    client.close()
    store = s3_store(s3_server, monkeypatch, bucket)
    with pytest.raises(StageError) as refused:
        list(store.list("raw"))
    assert refused.value.reason is Reason.CONFIG_INVALID
    assert refused.value.message == (
        f"{store.uri}: 'raw/a\\nb' can't be the name of a file: it has a control character"
    )


def test_nothing_is_logged_of_keys(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store = s3_store(s3_server, monkeypatch, bucket, secret_key="wrong-secret")
    for operation in OPERATIONS.values():
        refusal(operation, store, Path())
    assert "wrong-secret" not in caplog.text


def test_a_process_with_an_identity_of_its_own_needs_no_secret(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    store = S3Store(bucket, "own", connection(s3_server.endpoint, secret_ref=None), QUICK)
    assert store.create("a", b"by boto3")
    assert store.read("a") == b"by boto3"


def test_a_secret_wins_over_the_process_own_identity(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(variable, "another's")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    store = s3_store(s3_server, monkeypatch, bucket, "secret-wins")
    assert store.create("a", b"1")
    assert store.read("a") == b"1"


def test_a_shared_credentials_file_is_an_identity(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = f"aws_access_key_id={s3_server.access_key}\naws_secret_access_key={s3_server.secret_key}\n"
    (tmp_path / "credentials").write_text(f"[default]\n{keys}")
    without_identity(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    store = S3Store(bucket, "file", connection(s3_server.endpoint, secret_ref=None), QUICK)
    assert store.create("a", b"1")
    assert store.read("a") == b"1"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_without_any_identity_a_private_bucket_is_refused(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, operation: str
) -> None:
    without_identity(monkeypatch, tmp_path)
    store = S3Store(bucket, "anonymous", connection(s3_server.endpoint, secret_ref=None), QUICK)
    error = refusal(OPERATIONS[operation], store, tmp_path)
    assert error.reason is Reason.CREDENTIALS_INVALID
    assert error.message.endswith("answered 403 AccessDenied to nobody: no credentials were found")
    assert error.hint == "Name a Secret in the connection, or give the process an identity."


def without_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for variable in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(variable, str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        pytest.param(
            {"AWS_ACCESS_KEY_ID": "id"},
            "the key AWS_SECRET_ACCESS_KEY of the Secret s3 of the connection store is missing:"
            " the variable CONNECTION_STORE_AWS_SECRET_ACCESS_KEY is not set",
            id="a key that the Secret lacks",
        ),
        pytest.param(
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "s"},
            "the key AWS_ACCESS_KEY_ID of the Secret s3 of the connection store is missing:"
            " the variable CONNECTION_STORE_AWS_ACCESS_KEY_ID is not set",
            id="a key that is empty",
        ),
        pytest.param(
            {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "s3cret\n"},
            "the key AWS_SECRET_ACCESS_KEY of the Secret s3 of the connection store"
            " has white space, or a character that no key has",
            id="a line break at the end of a key",
        ),
    ],
)
def test_a_secret_that_cannot_be_right_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, keys: dict[str, str], message: str
) -> None:
    set_keys(monkeypatch, keys)
    with pytest.raises(StageError) as refused:
        S3Store("bucket", "prefix", connection("http://127.0.0.1:9"))
    assert refused.value.reason is Reason.CREDENTIALS_INVALID
    assert refused.value.message == message


@given(KEYS)
@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_that_is_accepted_is_kept_to_the_byte(hypothesis_store: S3Store, key: str) -> None:
    hypothesis_store.write(key, b"content")
    assert [entry.key for entry in hypothesis_store.list("")] == [key]
    assert hypothesis_store.read(key) == b"content"
    assert hypothesis_store.find(key)
    hypothesis_store.delete(key)
    assert hypothesis_store.find(key) is None
