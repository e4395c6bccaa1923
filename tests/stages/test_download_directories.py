"""Download from directories of the machine."""

import os
import sys
from pathlib import Path

import pytest

from hubs.repository import model, sha256
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import (
    place,
)
from lorafinetune_stages.download.selection import is_data_file
from lorafinetune_stages.hubs.directory import DirectorySource
from lorafinetune_stages.hubs.origin import Origin
from stages.download_builders import Bench, write

ROWS = b'[{"instruction": "hi", "output": "hello"}]'
MODEL_FILES = model()
EXTRA = {"modeling.py": b"exit()", "pytorch_model.bin": b"pickle", "weights/model.safetensors": b"deeper"}


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A model's directory."""
    return f"file://{write(tmp_path / 'model', MODEL_FILES | EXTRA)}"


def test_a_model_in_a_directory_is_taken_from_its_top_level(tmp_path: Path, source: str) -> None:
    bench = Bench(tmp_path)

    result = bench.run(source)

    assert bench.files(bench.place(result)) == MODEL_FILES
    assert bench.manifest(result).lineage["endpoint"] is None
    assert bench.run(source).cache_hit


def test_the_revision_of_a_directory_is_its_content(tmp_path: Path, source: str) -> None:
    first = Bench(tmp_path).run(source)

    write(tmp_path / "model", {"modeling.py": b"something else"})
    os.utime(tmp_path / "model" / "config.json")
    assert Bench(tmp_path).run(source) == first.model_copy(update={"cache_hit": True})

    write(tmp_path / "model", {"generation_config.json": b'{"top_p": 1}'})
    changed = Bench(tmp_path).run(source)
    assert (changed.cache_hit, changed.model.revision == first.model.revision) == (False, False)


def test_a_revision_of_a_directory_must_be_that_of_its_content(tmp_path: Path, source: str) -> None:
    digest = Bench(tmp_path).run(source).model.revision
    assert Bench(tmp_path).run(source, revision=digest).cache_hit

    refusal = Bench(tmp_path).refusal(source, revision="main")

    assert refusal.reason is Reason.MODEL_NOT_FOUND
    assert refusal.message == (
        f"spec.model.source: {source} has no revision 'main': by its content it is at {digest}"
    )
    assert refusal.hint == "Remove `spec.model.revision`."


def test_a_dataset_is_a_file_or_a_directory_of_data_files(tmp_path: Path, source: str) -> None:
    left = {"d.py": b"exit()", "e.txt": b"text", "b/dataset_info.json": b"{}", ".cache/a.json": b"{}"}
    data = write(tmp_path / "data", {"a.json": ROWS, "b/c.JSONL": b"{}"} | left)
    bench = Bench(tmp_path)

    result = bench.run(source, f"file://{data}", f"file://{data}/a.json", f"file://{data}/e.txt")

    assert [bench.files(place("datasets", key)) for key in result.datasets] == [
        {"a.json": ROWS, "b/c.JSONL": b"{}"},
        {"a.json": ROWS},
        {"e.txt": b"text"},
    ]


NOT_THERE = {
    "a model that does not exist": (
        "{tmp}/none",
        None,
        Reason.MODEL_NOT_FOUND,
        "does not exist: {tmp}/none",
    ),
    "a model that is a file": (
        "{tmp}/model/config.json",
        None,
        Reason.MODEL_NOT_FOUND,
        "is not a directory",
    ),
    "a dataset that does not exist": (
        "{tmp}/model",
        "{tmp}/rows.json",
        Reason.DATASET_NOT_FOUND,
        "does not exist: {tmp}/rows.json",
    ),
    "a dataset that is a device": (
        "{tmp}/model",
        "/dev/null",
        Reason.DATASET_NOT_FOUND,
        "is not a directory",
    ),
    "an empty dataset": (
        "{tmp}/model",
        "{tmp}/empty.json",
        Reason.DATASET_INVALID,
        "has no rows: the file empty.json is empty",
    ),
    "an empty file among others": (
        "{tmp}/model",
        "{tmp}/data",
        Reason.DATASET_INVALID,
        "has no rows: the file b.json is empty",
    ),
    "a directory without data": (
        "{tmp}/model",
        "{tmp}/model/weights",
        Reason.DATASET_INVALID,
        "has no file that ends in .json, .jsonl, .ndjson, .parquet, .csv",
    ),
    "a directory of metadata alone": (
        "{tmp}/model",
        "{tmp}/saved",
        Reason.DATASET_INVALID,
        "has no file that ends in .json, .jsonl, .ndjson, .parquet, .csv",
    ),
    "a dataset that is called like a manifest": (
        "{tmp}/model",
        "{tmp}/manifest.json",
        Reason.DATASET_INVALID,
        "can't be stored: a dataset's file can't be named manifest.json",
    ),
}


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(("model", "data", "reason", "what"), NOT_THERE.values(), ids=NOT_THERE)
def test_refuses(tmp_path: Path, model: str, data: str | None, reason: Reason, what: str) -> None:
    write(tmp_path, {"empty.json": b"", "data/a.json": ROWS, "data/b.json": b"", "manifest.json": ROWS})
    write(tmp_path / "saved", {"dataset_dict.json": b"{}", "train/state.json": b"{}"})
    sources = [f"file://{path.format(tmp=tmp_path)}" for path in (model, data) if path]

    refusal = Bench(tmp_path).refusal(*sources)

    field = "spec.datasets[0]" if data else "spec.model"
    assert refusal.reason is reason
    assert refusal.message == f"{field}.source: {sources[-1]} {what.format(tmp=tmp_path)}"


def test_a_link_that_leads_out_of_the_directory_is_refused(tmp_path: Path, source: str) -> None:
    write(tmp_path, {"secret": b"secret"})
    (tmp_path / "model" / "NOTICE").symlink_to("../secret")

    refusal = Bench(tmp_path).refusal(source)

    assert refusal.reason is Reason.MODEL_UNSUPPORTED
    assert refusal.message == f"spec.model.source: {source} has a link that leads out of it: NOTICE"
    assert refusal.hint == "Copy the directory with `cp -rL`, which copies what the links lead to."


def test_links_inside_the_directory_are_followed_and_those_that_nobody_wants_are_not(
    tmp_path: Path, source: str
) -> None:
    write(tmp_path / "model", {"blobs/abc": b"notice"})
    (tmp_path / "model" / "NOTICE").symlink_to("blobs/abc")
    (tmp_path / "model" / "python").symlink_to(sys.executable)
    data = write(tmp_path / "data", {"a.json": ROWS})
    (data / "loop").symlink_to(data)
    bench = Bench(tmp_path)

    result = bench.run(source, f"file://{data}")

    assert bench.files(bench.place(result)) == MODEL_FILES | {"NOTICE": b"notice"}
    assert bench.files(place("datasets", result.datasets[0])) == {"a.json": ROWS}


def test_a_pipe_is_not_waited_for(tmp_path: Path, source: str) -> None:
    os.mkfifo(tmp_path / "model" / "NOTICE")

    assert "NOTICE" not in Bench(tmp_path).files(Bench(tmp_path).place(Bench(tmp_path).run(source)))


def test_files_that_somebody_removed_are_copied_again(tmp_path: Path, source: str) -> None:
    bench = Bench(tmp_path)
    first = bench.run(source)
    (tmp_path / "store" / bench.place(first) / "LICENSE").unlink()

    assert bench.run(source) == first
    assert bench.files(bench.place(first)) == MODEL_FILES


def test_the_manifest_has_the_sha256_of_what_was_stored(tmp_path: Path, source: str) -> None:
    bench = Bench(tmp_path)

    manifest = bench.manifest(bench.run(source))

    assert {file.path: file.sha256 for file in manifest.files} == {
        name: sha256(body) for name, body in MODEL_FILES.items()
    }


def test_a_file_is_streamed_from_any_offset(tmp_path: Path) -> None:
    write(tmp_path, {"rows.json": ROWS})
    source = DirectorySource(Origin("spec.datasets[0]", "datasets", f"file://{tmp_path}"), is_data_file)
    (file,) = source.snapshot().files

    assert [b"".join(source.stream(file, offset)) for offset in (0, 7, len(ROWS))] == [ROWS, ROWS[7:], b""]
