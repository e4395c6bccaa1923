"""Download from and into a real S3 server."""

import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from cluster.s3server import S3Server
from hubs.huggingface import HuggingFaceHub
from hubs.repository import Repository, model, safetensors
from hubs.server import Answer, Request, cut_after, sending
from lorafinetune.api.reasons import Reason
from lorafinetune.api.sources import Connection, SecretReference
from lorafinetune.contract.arguments import place
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.hubs.s3 import S3Source
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.factory import open_store
from stages.download_builders import Bench, hub

LARGE = safetensors(a=7_000_000, b=7_000_000)
"""56 MB: several parts of a multipart upload."""
MODEL_FILES = model(model__safetensors=LARGE)
ROWS = b'[{"instruction": "hi", "output": "hello"}]'


@pytest.fixture
def connection(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Connection:
    monkeypatch.setenv("CONNECTION_S3_AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("CONNECTION_S3_AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    return Connection(name="s3", endpoint=s3_server.endpoint, secret_ref=SecretReference(name="s3"))


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    name = f"download-{uuid.uuid4().hex[:8]}"
    s3_server.create_bucket(name)
    return name


def fill(store: Store, files: Mapping[str, bytes]) -> None:
    for name, body in files.items():
        store.write(name, body)


def test_from_one_bucket_into_another_place(tmp_path: Path, connection: Connection, bucket: str) -> None:
    fill(
        open_store(f"s3://{bucket}", connection),
        {f"raw/m/{name}": body for name, body in MODEL_FILES.items()},
    )
    fill(open_store(f"s3://{bucket}/raw", connection), {"rows/a.json": ROWS, "rows/b.jsonl": b"{}"})
    bench = Bench(tmp_path, connection, destination=open_store(f"s3://{bucket}/runs", connection))

    result = bench.run(f"s3://{bucket}/raw/m", f"s3://{bucket}/raw/rows/a.json", f"s3://{bucket}/raw/rows/")

    assert bench.files(bench.place(result)) == MODEL_FILES
    assert bench.files(place("datasets", result.datasets[1])) == {"a.json": ROWS, "b.jsonl": b"{}"}
    assert bench.run(f"s3://{bucket}/raw/m", f"s3://{bucket}/raw/rows/a.json").cache_hit


def test_a_hub_whose_connection_breaks_streams_into_s3(
    tmp_path: Path, connection: Connection, bucket: str
) -> None:
    with HuggingFaceHub({"models/owner/model": Repository(MODEL_FILES)}) as server:
        bench = Bench(tmp_path, hub(server.url), destination=open_store(f"s3://{bucket}", connection))
        server.fail("model.safetensors", cut_after(20_000_000), cut_after(20_000_000))

        assert bench.files(bench.place(bench.run())) == MODEL_FILES


DAMAGED = bytearray(LARGE)
DAMAGED[-1] ^= 1


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (
            b"\xff" * len(LARGE),
            "has a broken file: model.safetensors has a header of 18446744073709551615 bytes; ",
        ),
        (bytes(DAMAGED), "sends model.safetensors with the sha256 "),
    ],
    ids=["a broken header", "another sha256"],
)
def test_what_is_refused_while_it_streams_leaves_nothing_in_s3(
    tmp_path: Path, connection: Connection, bucket: str, sent: bytes, what: str
) -> None:
    with HuggingFaceHub({"models/owner/model": Repository(MODEL_FILES)}) as server:
        bench = Bench(tmp_path, hub(server.url), destination=open_store(f"s3://{bucket}", connection))
        server.fail("model.safetensors", sending(sent))

        refusal = bench.refusal()

    assert refusal.reason is Reason.ARTIFACT_CORRUPT
    assert refusal.message.startswith(f"spec.model.source: hf://owner/model {what}")
    kept = [entry.key for entry in bench.store.list("models")]
    assert not [key for key in kept if key.endswith(("model.safetensors", "manifest.json"))]


def test_a_stream_that_gives_up_inside_an_upload_tells_its_own_reason(
    tmp_path: Path, connection: Connection, bucket: str
) -> None:
    def cut_again(request: Request, right: Answer) -> Answer:
        server.fail("model.safetensors", cut_again)
        return cut_after(1000)(request, right)

    with HuggingFaceHub({"models/owner/model": Repository(MODEL_FILES)}) as server:
        bench = Bench(tmp_path, hub(server.url), destination=open_store(f"s3://{bucket}", connection))
        server.fail("model.safetensors", cut_after(40_000_000), cut_again)

        refusal = bench.refusal()

    assert refusal.reason is Reason.HUB_UNAVAILABLE
    assert bench.pauses == [1, 2, 4, 8]


def test_an_object_that_is_replaced_while_it_is_copied_is_corrupt(
    connection: Connection, bucket: str
) -> None:
    store = open_store(f"s3://{bucket}", connection)
    store.write("rows/a.json", ROWS)
    source = S3Source(
        Origin("spec.datasets[0]", "datasets", f"s3://{bucket}/rows/a.json", None, connection), bool
    )
    file = source.snapshot().files[0]
    stream = source.stream(file)
    assert next(stream) == ROWS
    store.write("rows/a.json", ROWS.replace(b"hi", b"ho"))

    with pytest.raises(StageError) as caught:
        next(stream)

    assert caught.value.reason is Reason.ARTIFACT_CORRUPT
    assert caught.value.message == (
        f"spec.datasets[0].source: s3://{bucket}/rows/a.json was written to while it was copied: a.json"
    )


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials(
    tmp_path: Path, connection: Connection, bucket: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(f"CONNECTION_S3_{variable}", "wrong")

    refusal = Bench(tmp_path, connection).refusal(f"s3://{bucket}/raw/m")

    assert refusal.reason is Reason.CREDENTIALS_INVALID
    assert refusal.message.startswith(f"spec.model.source: s3://{bucket}/raw/m can't be read: s3://{bucket}")
    assert "wrong" not in refusal.message


def test_a_user_without_rights_is_told_to_ask_for_them(
    tmp_path: Path, s3_server: S3Server, connection: Connection, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.create_user("newcomer", "stranger-secret")
    monkeypatch.setenv("CONNECTION_S3_AWS_ACCESS_KEY_ID", "newcomer")
    monkeypatch.setenv("CONNECTION_S3_AWS_SECRET_ACCESS_KEY", "stranger-secret")

    refusal = Bench(tmp_path, connection).refusal(f"s3://{bucket}/raw/m")

    assert refusal.reason is Reason.STORAGE_DENIED
    assert refusal.hint == "Grant the credentials of the source's connection read and list on it."


def test_a_bucket_that_does_not_exist(tmp_path: Path, connection: Connection, s3_server: S3Server) -> None:
    refusal = Bench(tmp_path, connection).refusal("s3://no-such-bucket/m")

    assert refusal.reason is Reason.CONFIG_INVALID
    assert refusal.message == (
        "spec.model.source: s3://no-such-bucket/m can't be read: s3://no-such-bucket/m: "
        f"the bucket no-such-bucket does not exist at {s3_server.endpoint}"
    )
