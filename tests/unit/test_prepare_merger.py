"""Datasets of several files become one corpus: what is read of them, and what is said where that fails."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.datasets import Dataset
from lorafinetune.api.training import Objective
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.corpus import Corpus
from lorafinetune_stages.prepare.findings import Findings, Kind
from lorafinetune_stages.prepare.inputs import DatasetFiles
from lorafinetune_stages.prepare.merger import Merger
from lorafinetune_stages.store import ignore_progress
from stages.prepare_builders import listed_as
from unit.prepare_rows import ALPACA, TEXTS

Files = Mapping[str, bytes]

ROW = json.dumps(ALPACA).encode()
LIST = b"[" + ROW + b"]"
BROKEN_LIST = b"[" + ROW + b",]"
BROKEN_ROW = b"{'instruction': 'q', 'output': 'a'}\n"
NO_OUTPUT = b'{"instruction": "q"}\n'
SKIP: dict[str, Any] = {"onBadRow": "skip"}


def fetched(folder: Path, dataset: Dataset, files: Files) -> DatasetFiles:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return listed_as(dataset, {name: len(files[name]) for name in sorted(files)})


def merge(
    root: Path, *several: Files, objective: Objective = "sft", **fields: Any
) -> tuple[Corpus, Findings]:
    """The datasets of these files, read and judged. fields: of all datasets. Raises StageError."""
    datasets = [Dataset.decode({"source": "s3://raw/a"} | fields) for _ in several]
    given = [
        fetched(root / str(index), dataset, files)
        for index, (dataset, files) in enumerate(zip(datasets, several, strict=True))
    ]
    findings = Findings(datasets)
    with Corpus(root / "rows") as corpus:
        Merger(corpus, findings, TEXTS, root, ignore_progress, objective).merge(given)
    findings.judge()
    return corpus, findings


def refusal(root: Path, *several: Files, **fields: Any) -> StageError:
    with pytest.raises(StageError) as caught:
        merge(root, *several, **fields)
    return caught.value


@pytest.mark.parametrize(
    ("name", "good", "broken", "message"),
    [
        pytest.param(
            "train.json",
            LIST,
            BROKEN_LIST,
            f"datasets[1]: train.json:1:{len(BROKEN_LIST)} (byte {len(BROKEN_LIST) - 1}): broken JSON: "
            "a comma before the end of a list",
            id="a broken list",
        ),
        pytest.param(
            "train.jsonl",
            ROW,
            b"PK\x03\x04",
            "datasets[1]: train.jsonl:1: the file is a zip archive; a dataset is a JSON list of rows, "
            "JSON Lines, CSV or Parquet",
            id="another kind of file",
        ),
        pytest.param(
            "train.csv",
            b"instruction,output\nq,a\n",
            b"instruction,output,output\nq,a,b\n",
            "datasets[1]: train.csv:1: two columns are named output",
            id="a table with a column twice",
        ),
        pytest.param(
            "train.csv",
            b"instruction,output\nq,a\n",
            b'instruction,output\nq,"a\n',
            "datasets[1]: train.csv:2: broken CSV: unexpected end of data",
            id="an open quote",
        ),
        pytest.param(
            "train.jsonl",
            ROW,
            b"{}",
            "datasets[1].format: auto can't tell the format: train.jsonl:1 has no fields: fits no format",
            id="an unknown format, whose field names the dataset already",
        ),
        pytest.param(
            "train.jsonl",
            ROW,
            b"\n",
            "datasets[1]: train.jsonl: the dataset is empty",
            id="an empty file, whose error names the dataset already",
        ),
    ],
)
def test_an_error_says_of_which_dataset_a_file_is(
    tmp_path: Path, name: str, good: bytes, broken: bytes, message: str
) -> None:
    found = refusal(tmp_path, {name: good}, {name: broken})
    assert found.message.partition(" (alpaca needs")[0] == message


def test_a_broken_parquet_file_says_of_which_dataset_it_is(tmp_path: Path) -> None:
    found = refusal(tmp_path, {"train.jsonl": ROW}, {"train-00000-of-00001.parquet": b"PAR1xxxxPAR1"})
    assert found.message.startswith("datasets[1]: train-00000-of-00001.parquet: broken Parquet: ")


def test_bad_rows_say_of_which_dataset_they_are(tmp_path: Path) -> None:
    file = {"train.jsonl": ROW + b"\n" + NO_OUTPUT}
    _, findings = merge(tmp_path, file, file, **SKIP)
    assert findings.places == [
        f"datasets[{index}]: train.jsonl:2: output: the answer is missing" for index in (0, 1)
    ]


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        pytest.param(
            json.dumps(ALPACA, indent=1).encode(),
            "5 of 5 rows can't be learned from (5 broken JSON)\n  a.jsonl:1:2 (byte 1): broken JSON: ",
            "or leave out the dataset.",
            id="an object of several lines",
        ),
        pytest.param(
            BROKEN_ROW * 30,
            "30 of 30 rows can't be learned from (30 broken JSON)\n  a.jsonl:1:2 (byte 1): broken JSON: ",
            "or leave out the dataset.",
            id="single quotes",
        ),
        pytest.param(
            (ROW + b",\n") * 2,
            f"2 of 2 rows can't be learned from (2 broken JSON)\n  a.jsonl:1:{len(ROW) + 1} "
            f"(byte {len(ROW)}): broken JSON: a comma after the row",
            "or leave out the dataset.",
            id="commas between the lines",
        ),
        pytest.param(
            b'[["q"], ["a"]]',
            "2 of 2 rows can't be learned from (2 not an object)\n"
            "  a.jsonl[0] (line 1): the row is a list, not an object",
            "or leave out the dataset.",
            id="lists in place of objects",
        ),
        pytest.param(
            BROKEN_ROW * 25 + ROW,
            "25 of 26 rows can't be learned from (25 broken JSON)\n  a.jsonl:1:2 (byte 1): broken JSON: ",
            "or set `onBadRow: skip` on the dataset.",
            id="broken rows ahead of a good one",
        ),
    ],
)
def test_where_no_row_is_an_object_the_rows_are_said_to_be_bad_and_not_the_format(
    tmp_path: Path, content: bytes, message: str, hint: str
) -> None:
    found = refusal(tmp_path, {"a.jsonl": content})
    assert found.message.startswith(f"datasets[0]: {message}")
    assert found.hint == f"Mend the rows named in the message, {hint}"


@pytest.mark.parametrize(
    ("files", "counts", "bad"),
    [
        pytest.param(
            {"a.jsonl": BROKEN_ROW * 25 + b'["q"]\n' * 25 + (ROW + b"\n") * 1000},
            [1000],
            50,
            id="before the first object",
        ),
        pytest.param(
            {"a.jsonl": BROKEN_ROW, "b.jsonl": (ROW + b"\n") * 99}, [99], 1, id="in a file of their own"
        ),
    ],
)
def test_bad_rows_are_left_out_wherever_they_are(
    tmp_path: Path, files: Files, counts: list[int], bad: int
) -> None:
    corpus, findings = merge(tmp_path, files, **SKIP, maxBadFraction="0.05")
    assert (corpus.counts, findings.bad) == (counts, bad)


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"a.json": b"[" + ROW + b"," + ROW + b",BROKEN"}, id="a broken end of a list"),
        pytest.param({"a.json": b"[" + ROW + b"," + ROW}, id="no end of a list"),
        pytest.param({"a.csv": b'instruction,output\nq,a\nq,a\nq,"b'}, id="a broken end of CSV"),
        pytest.param({"a.jsonl": (ROW + b"\n") * 2 + BROKEN_ROW}, id="a broken line"),
        pytest.param({"a.json": LIST, "b.json": LIST, "c.csv": b"\xff\xfe"}, id="a file that can't be read"),
        pytest.param({"a.json": LIST, "b.json": LIST, "c.json": b"[{}]"}, id="a file of an unknown format"),
    ],
)
def test_nothing_is_read_beyond_max_samples(tmp_path: Path, files: Files) -> None:
    corpus, findings = merge(tmp_path, files, maxSamples=2)
    assert (corpus.counts, findings.rows, findings.bad) == ([2], [2], 0)


@pytest.mark.parametrize(
    ("objective", "rows", "kind"),
    [
        pytest.param("sft", [ALPACA | {"output": "🐳"}, ALPACA], Kind.EMPTY_ANSWER, id="an answer"),
        pytest.param("pt", [{"text": "🐳"}, {"text": "a"}], Kind.EMPTY_TEXT, id="a text"),
    ],
)
def test_what_is_cleaned_away_is_counted_as_what_it_was(
    tmp_path: Path, objective: Objective, rows: Sequence[Any], kind: Kind
) -> None:
    file = {"a.json": json.dumps(rows).encode()}
    _, findings = merge(tmp_path, file, objective=objective, clean={"remove": ["🐳"]}, **SKIP)
    assert findings.kinds == [{kind: 1}]


def test_rows_are_counted_by_their_dataset(tmp_path: Path) -> None:
    corpus, _ = merge(tmp_path, *({"a.jsonl": (ROW + b"\n") * count} for count in (3, 2, 4)))
    assert corpus.count_by_dataset([0, 2, 5, 6, 8]) == [2, 0, 3]
    assert corpus.count_by_dataset(range(9)) == [3, 2, 4]
    assert corpus.count_by_dataset(()) == [0, 0, 0]
