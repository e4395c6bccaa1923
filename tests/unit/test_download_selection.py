"""Which files are taken, by their names."""

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.download.selection import (
    check_names,
    is_data_file,
    is_licence_file,
    is_model_file,
    select_data,
)
from lorafinetune_stages.hubs import RemoteFile, Snapshot
from lorafinetune_stages.hubs.origin import Origin


@pytest.mark.parametrize(
    "path",
    [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "model-00001-of-00004.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
        "chat_template.json",
        "LICENSE",
        "license.txt",
        "LICENCE",
        "NOTICE.md",
        "README.md",
        "README_en.md",
    ],
)
def test_belongs_to_a_model(path: str) -> None:
    assert is_model_file(path)


@pytest.mark.parametrize(
    "path",
    [
        "pytorch_model.bin",
        "model.safetensors.py",
        "modeling_chatglm.py",
        "tokenization_chatglm.py",
        "model.pt",
        "model.gguf",
        "optimizer.pt",
        "training_args.bin",
        "consolidated/model.safetensors",
        "original/config.json",
        "docs/README.md",
        ".gitattributes",
        "CONFIG.JSON",
        "",
    ],
)
def test_does_not_belong_to_a_model(path: str) -> None:
    assert not is_model_file(path)


@pytest.mark.parametrize(
    "path",
    [
        "a.json",
        "a.jsonl",
        "a.ndjson",
        "b/c.parquet",
        "d.CSV",
        "e/manifest.json",
        "dataset_info.jsonl",
        "a..json",
    ],
)
def test_may_hold_rows(path: str) -> None:
    assert is_data_file(path)


@pytest.mark.parametrize(
    "path",
    [
        "a.py",
        "json",
        "a.json.gz",
        "README.md",
        "manifest.json",
        "a.pkl",
        ".json",
        ".gitattributes",
        ".cache/a.json",
        "b/._a.jsonl",
        "config.json",
        "dataset_infos.json",
        "b/dataset_info.json",
        "Dataset_Info.json",
        "dataset_dict.json",
        "train/state.json",
    ],
)
def test_holds_no_rows(path: str) -> None:
    assert not is_data_file(path)


def test_a_readme_is_no_licence() -> None:
    assert [is_licence_file(path) for path in ("LICENSE", "Notice.txt", "README.md", "docs/LICENSE")] == [
        True,
        True,
        False,
        False,
    ]


ORIGIN = Origin("spec.datasets[0]", "datasets", "hf://owner/data")


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (
            [RemoteFile("a", 1), RemoteFile("a", 2)],
            "lists the file 'a', which is refused: it is listed twice",
        ),
        ([RemoteFile("a", -1)], "lists the file 'a', which is refused: its size is negative"),
        ([RemoteFile(str(n), 1) for n in range(100_001)], "lists more than 100000 files"),
    ],
    ids=["a file twice", "a negative size", "files without end"],
)
def test_refuses_a_listing_with(files: list[RemoteFile], what: str) -> None:
    with pytest.raises(StageError) as caught:
        check_names(ORIGIN, Snapshot("main", tuple(files)))

    assert caught.value.reason is Reason.DATASET_INVALID
    assert caught.value.message == f"spec.datasets[0].source: hf://owner/data {what}"


def listing(*paths: str) -> Snapshot:
    return Snapshot("main", tuple(RemoteFile(path, 1) for path in paths))


def named(file: str) -> Origin:
    return Origin("spec.datasets[0]", "datasets", f"hf://owner/data/{file}")


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        pytest.param("data/train-*", ["data/train-a.jsonl", "data/train-b.csv"], id="files of a folder"),
        pytest.param("*/train-*.csv", ["data/train-b.csv"], id="files of any folder"),
        pytest.param("*", ["rows*.json", "rows.json"], id="files of the top level, and rows alone"),
        pytest.param("rows*.json", ["rows*.json", "rows.json"], id="a file that is called like the pattern"),
        pytest.param("notes.txt", ["notes.txt"], id="a file without a pattern, whatever its name"),
    ],
)
def test_a_source_may_name(pattern: str, taken: list[str]) -> None:
    has = [
        "rows*.json",
        "rows.json",
        "notes.txt",
        "data/train-a.jsonl",
        "data/train-b.csv",
        "data/train-c.py",
    ]

    found = select_data(named(pattern), listing(*has, "data/train-d/e.csv"))

    assert [file.path for file in found] == taken


def test_a_pattern_that_fits_nothing_is_refused() -> None:
    with pytest.raises(StageError) as caught:
        select_data(named("data/test-*"), listing("data/train-a.csv", "data/test-b.txt"))

    assert caught.value.reason is Reason.DATASET_NOT_FOUND
    assert caught.value.message == (
        "spec.datasets[0].source: hf://owner/data/data/test-* fits no file of owner/data that may hold rows"
    )
