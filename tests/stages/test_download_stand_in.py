"""Download from the directory that stands in for S3 in local runs."""

from pathlib import Path

import pytest

from hubs.repository import model
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import (
    STORE_DIRECTORY_VARIABLE,
    place,
)
from lorafinetune_stages.download.selection import is_data_file
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.hubs.s3 import S3Source
from stages.download_builders import Bench, write

ROWS = b'[{"instruction": "hi", "output": "hello"}]'
MODEL_FILES = model()
EXTRA = {"modeling.py": b"exit()", "pytorch_model.bin": b"pickle", "weights/model.safetensors": b"deeper"}


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that stands in for the bucket `data` of an S3 server."""
    monkeypatch.setenv(STORE_DIRECTORY_VARIABLE, str(tmp_path / "s3"))
    files = {f"models/tiny/{name}": body for name, body in (MODEL_FILES | EXTRA).items()}
    rows = {"raw/a.json": ROWS, "raw/b.jsonl": b"{}", "raw/notes.md": b"notes", "raw-more/c.json": ROWS}
    return write(tmp_path / "s3" / "data", files | rows)


def test_a_model_below_a_prefix_and_datasets_by_key_and_by_prefix(tmp_path: Path, bucket: Path) -> None:
    bench = Bench(tmp_path)

    result = bench.run("s3://data/models/tiny", "s3://data/raw/a.json", "s3://data/raw/")

    assert bench.files(bench.place(result)) == MODEL_FILES
    assert [bench.files(place("datasets", key)) for key in result.datasets] == [
        {"a.json": ROWS},
        {"a.json": ROWS, "b.jsonl": b"{}"},
    ]
    assert bench.run("s3://data/models/tiny", "s3://data/raw/a.json").cache_hit


def test_a_whole_bucket_is_a_model(tmp_path: Path, bucket: Path) -> None:
    write(tmp_path / "s3" / "model", MODEL_FILES)

    assert Bench(tmp_path).run("s3://model").model.bytes == sum(map(len, MODEL_FILES.values()))


def test_the_revision_of_a_prefix_changes_with_its_objects_and_with_nothing_else(
    tmp_path: Path, bucket: Path
) -> None:
    first = Bench(tmp_path).run("s3://data/models/tiny")

    write(bucket, {"models/tiny/modeling.py": b"something else", "models/other/config.json": b"{}"})
    assert Bench(tmp_path).run("s3://data/models/tiny").cache_hit

    write(bucket, {"models/tiny/generation_config.json": b'{"top_p": 1}'})
    assert Bench(tmp_path).run("s3://data/models/tiny").model.revision != first.model.revision


@pytest.mark.parametrize(
    ("source", "reason", "what"),
    [
        ("s3://data/raw/none.json", Reason.DATASET_NOT_FOUND, "does not exist: there is no such object"),
        ("s3://data/raw", Reason.DATASET_NOT_FOUND, "does not exist: there is no such object"),
        ("s3://data/none/", Reason.DATASET_NOT_FOUND, "does not exist: there is no object below it"),
        (
            "s3://other/rows.json",
            Reason.CONFIG_INVALID,
            "can't be read: s3://other: the bucket other does not exist in {tmp}/s3",
        ),
        (
            "s3://data/../secret.json",
            Reason.CONFIG_INVALID,
            "can't be read: s3://data: '../secret.json' can't be the name of a file: it has the part '..'",
        ),
    ],
    ids=[
        "no such object",
        "a prefix without a slash",
        "an empty prefix",
        "no bucket",
        "a key that leads out",
    ],
)
def test_s3_refuses(tmp_path: Path, bucket: Path, source: str, reason: Reason, what: str) -> None:
    refusal = Bench(tmp_path).refusal("s3://data/models/tiny", source)

    assert refusal.reason is reason
    assert refusal.message == f"spec.datasets[0].source: {source} {what.format(tmp=tmp_path)}"


def test_no_object_is_no_model(tmp_path: Path, bucket: Path) -> None:
    refusal = Bench(tmp_path).refusal("s3://data/models/none")

    assert refusal.reason is Reason.MODEL_NOT_FOUND
    assert refusal.message == (
        "spec.model.source: s3://data/models/none does not exist: there is no object below it"
    )


def test_an_object_is_streamed_from_any_offset(bucket: Path) -> None:
    source = S3Source(Origin("spec.datasets[0]", "datasets", "s3://data/raw/a.json"), is_data_file)
    (file,) = source.snapshot().files

    assert [b"".join(source.stream(file, offset)) for offset in (0, 7, len(ROWS))] == [ROWS, ROWS[7:], b""]


def test_weights_that_an_earlier_run_left_broken_are_copied_again(tmp_path: Path, bucket: Path) -> None:
    bench = Bench(tmp_path)
    where = tmp_path / "store" / bench.place(bench.run("s3://data/models/tiny"))
    (where / "manifest.json").unlink()
    (where / "model.safetensors").write_bytes(b"\xff" * len(MODEL_FILES["model.safetensors"]))

    assert bench.files(bench.place(bench.run("s3://data/models/tiny"))) == MODEL_FILES
