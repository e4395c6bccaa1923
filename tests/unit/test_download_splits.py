"""Repositories whose files name several splits are refused."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from datasets.data_files import get_data_patterns

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.download.selection import select_data
from lorafinetune_stages.download.splits import check_splits
from lorafinetune_stages.hubs import RemoteFile, Snapshot
from lorafinetune_stages.hubs.origin import Origin
from stages.download_builders import write

DATA = "hf://owner/data"


def listing(paths: Sequence[str]) -> Snapshot:
    return Snapshot("main", tuple(RemoteFile(path, 1) for path in paths))


def origin(source: str) -> Origin:
    return Origin("spec.datasets[0]", "datasets", source)


def refusal(paths: Sequence[str], source: str = DATA) -> StageError:
    with pytest.raises(StageError) as caught:
        check_splits(origin(source), listing(paths))
    assert caught.value.reason is Reason.DATASET_INVALID
    return caught.value


def shards(*splits: str) -> list[str]:
    return [f"{split}-0000{shard}-of-00002.parquet" for split in splits for shard in range(2)]


CONVENTIONS = {
    "shards": (shards("train", "test"), {"train": "train-*", "test": "test-*"}),
    "shards in data": (
        shards("data/train", "data/validation"),
        {"train": "data/train-*", "validation": "data/validation-*"},
    ),
    "shards of splits with names of their own": (
        shards("data/train_sft", "data/test_sft", "data/train_gen"),
        {"train_gen": "data/train_gen-*", "train_sft": "data/train_sft-*", "test_sft": "data/test_sft-*"},
    ),
    "one shard of each": (
        ["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"],
        {"train": "data/train-00000-of-00001.parquet", "test": "data/test-00000-of-00001.parquet"},
    ),
    "files": (
        ["train.jsonl", "valid.jsonl", "test.jsonl"],
        {"train": "train.jsonl", "test": "test.jsonl", "validation": "valid.jsonl"},
    ),
    "words inside of names": (
        ["my-training.v2.csv", "my_dev.csv"],
        {"train": "my-training.v2.csv", "validation": "my_dev.csv"},
    ),
    "folders": (
        ["train/0000.parquet", "train/0001.parquet", "val/0000.parquet"],
        {"train": "train/*", "validation": "val/0000.parquet"},
    ),
    "folders of several languages": (
        ["en/train.json", "fr/train.json", "en/eval.json", "fr/eval.json"],
        {"train": "*/train.json", "test": "*/eval.json"},
    ),
}
HOSTILE = {
    "files of no split beside a held-out one": (
        ["rows.jsonl", "more.jsonl", "test.jsonl"],
        {"train": "more.jsonl", "test": "test.jsonl"},
    ),
    "capitals": (["Train.jsonl", "TEST.jsonl"], {"train": "Train.jsonl", "test": "TEST.jsonl"}),
    "a file that says otherwise than its folder": (
        ["evaluation/train.jsonl", "evaluation/test.jsonl"],
        {"train": "evaluation/train.jsonl", "test": "evaluation/test.jsonl"},
    ),
    "folders of several depths": (
        ["train/a.jsonl", "train/b/c.jsonl", "test/d.jsonl"],
        {"train": "train/a.jsonl", "test": "test/d.jsonl"},
    ),
    "characters of patterns in names": (
        ["[ab]/train1.json", "[ab]/train2.json", "test*.json"],
        {"train": "[ab]/train1.json", "test": "test*.json"},
    ),
    "a name that turns text around": (
        ["train\u202e.json", "test.json"],
        {"train": "'train\\u202e.json'", "test": "test.json"},
    ),
}


@pytest.mark.parametrize(("files", "splits"), (CONVENTIONS | HOSTILE).values(), ids=CONVENTIONS | HOSTILE)
def test_a_repository_is_refused_that_has(files: list[str], splits: dict[str, str]) -> None:
    found = refusal([*files, "README.md", "dataset_infos.json"])

    told = ", ".join(f"{split} ({named})" for split, named in splits.items())
    assert found.message == (
        f"spec.datasets[0].source: {DATA} has files of {len(splits)} splits, and all would be trained on: "
        f"{told}"
    )
    assert found.hint == (
        f"Name the files that are meant, like {DATA}/{next(iter(splits.values()))}; another split may be a "
        "dataset of its own."
    )


@pytest.mark.parametrize(("files", "splits"), CONVENTIONS.values(), ids=CONVENTIONS)
def test_datasets_itself_finds_the_same_splits_in(
    tmp_path: Path, files: list[str], splits: dict[str, str]
) -> None:
    write(tmp_path, dict.fromkeys(files, b"{}"))

    assert set(map(str, get_data_patterns(str(tmp_path)))) == set(splits)


@pytest.mark.parametrize(("files", "splits"), CONVENTIONS.values(), ids=CONVENTIONS)
def test_the_files_that_a_refusal_names_are_those_of_one_split(
    files: list[str], splits: dict[str, str]
) -> None:
    taken = [
        {file.path for file in select_data(origin(f"{DATA}/{named}"), listing(files))}
        for named in splits.values()
    ]

    assert sorted(path for paths in taken for path in paths) == sorted(files)


def test_a_refusal_names_ten_splits_at_most() -> None:
    found = refusal(shards(*(f"data/{'x' * 200}{number}" for number in range(1000))))

    assert found.message.endswith(" and 990 more")
    assert len(found.message) < 2800


@pytest.mark.parametrize(
    ("source", "files"),
    [
        pytest.param(DATA, shards("data/train"), id="one split"),
        pytest.param(DATA, ["test.jsonl"], id="one that is held out"),
        pytest.param(DATA, ["a.jsonl", "b/c.json", "latest.json", "contest/d.csv"], id="no split"),
        pytest.param(DATA, ["train.jsonl", "more.jsonl"], id="files of no split beside those to train on"),
        pytest.param(DATA, ["train.jsonl", "test.txt", "test/README.md"], id="other files of a split"),
        pytest.param(f"{DATA}/*", ["train.jsonl", "test.jsonl"], id="a source that names its files"),
        pytest.param("s3://bucket/data/", ["train.jsonl", "test.jsonl"], id="a prefix"),
        pytest.param("file:///data", ["train.jsonl", "test.jsonl"], id="a directory"),
    ],
)
def test_all_is_taken_of(source: str, files: list[str]) -> None:
    check_splits(origin(source), listing(files))
