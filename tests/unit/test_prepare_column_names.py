"""Names of columns that a dataset gives: one that no row has is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.datasets import Dataset
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.conversation import Conversation
from lorafinetune_stages.prepare.corpus import Corpus
from lorafinetune_stages.prepare.findings import Findings
from lorafinetune_stages.prepare.merger import Merger
from lorafinetune_stages.store import ignore_progress
from stages.prepare_builders import json_lines, listed_as
from unit.prepare_rows import ALPACA, SHAREGPT, TEXTS, talk

CONTEXT = {"instruction": "q", "context": "c", "output": "a"}


def merged(root: Path, files: dict[str, bytes], columns: dict[str, str], **fields: Any) -> list[Conversation]:
    """The rows of a dataset of these files. fields: others of the dataset."""
    (root / "0").mkdir()
    for name, content in files.items():
        (root / "0" / name).write_bytes(content)
    dataset = Dataset.decode({"source": "s3://raw/a/", "columns": columns} | fields)
    with Corpus(root / "rows") as corpus:
        merger = Merger(corpus, Findings([dataset]), TEXTS, root, ignore_progress)
        merger.merge([listed_as(dataset, {name: len(content) for name, content in files.items()})])
        return [row for _, row in corpus.read(range(len(corpus)))]


@pytest.mark.parametrize(
    ("files", "columns", "expected"),
    [
        pytest.param(
            {"a.jsonl": json_lines([ALPACA, CONTEXT])},
            {"query": "context"},
            [talk("q", "a"), talk("q\nc", "a")],
            id="some rows",
        ),
        pytest.param(
            {"a.jsonl": json_lines([ALPACA]), "b.jsonl": b"{broken\n" + json_lines([CONTEXT])},
            {"query": "context"},
            [talk("q", "a"), talk("q\nc", "a")],
            id="one file of several",
        ),
        pytest.param(
            {"a.csv": b"instruction,output,context\nq,a,\n"},
            {"query": "context"},
            [talk("q", "a")],
            id="a table, with nothing in it",
        ),
        pytest.param(
            {"a.jsonl": json_lines([{"conversation": [{"persona": "s", "q": "q", "output": "a"}]}])},
            {"system": "persona", "prompt": "q"},
            [talk("q", "a", system="s")],
            id="the turns of multiTurn",
        ),
    ],
)
def test_a_column_may_be_named_that_is_in(
    tmp_path: Path, files: dict[str, bytes], columns: dict[str, str], expected: list[Conversation]
) -> None:
    assert merged(tmp_path, files, columns) == expected


@pytest.mark.parametrize(
    ("files", "columns", "message"),
    [
        pytest.param(
            {"a.jsonl": json_lines([CONTEXT, ALPACA])},
            {"query": "contxt"},
            "datasets[0].columns.query: no row of a.jsonl has a field contxt (the first has the fields "
            "instruction, context, output)",
            id="a slip in a name",
        ),
        pytest.param(
            {"a.csv": b"instruction,output\nq,a\n"},
            {"response": "output", "system": "persona"},
            "datasets[0].columns.system: no row of a.csv has a field persona (the first has the fields "
            "instruction, output)",
            id="a column that a table has not",
        ),
        pytest.param(
            {"a.jsonl": json_lines([ALPACA]), "b.jsonl": json_lines([CONTEXT])},
            {"query": "contxt"},
            "datasets[0].columns.query: no row of the 2 files has a field contxt (the first has the fields "
            "instruction, input, output)",
            id="a column that none of several files has",
        ),
        pytest.param(
            {"a.jsonl": json_lines([SHAREGPT | {"persona": "s"}])},
            {"system": "value"},
            "datasets[0].columns.system: no row of a.jsonl has a field value (the first has the fields "
            "conversations: [{from, value}], persona)",
            id="a field of a message, where one of the row is meant",
        ),
    ],
)
def test_a_name_is_refused_that_is(
    tmp_path: Path, files: dict[str, bytes], columns: dict[str, str], message: str
) -> None:
    with pytest.raises(StageError) as caught:
        merged(tmp_path, files, columns)
    assert (caught.value.reason, caught.value.message) == (Reason.DATASET_INVALID, message)
    field, _, _ = message.partition(":")
    assert caught.value.hint == f"Mend the name in {field}, or leave it out."


TWICE: dict[str, tuple[dict[str, str], str]] = {
    "two that are named": ({"response": "output", "query": "output"}, "query and response are both output"),
    "one that is named, and one as usual": (
        {"response": "instruction"},
        "prompt and response are both instruction",
    ),
}


@pytest.mark.parametrize("sentence", TWICE)
def test_two_columns_of_one_name_are_refused(sentence: str, tmp_path: Path) -> None:
    columns, message = TWICE[sentence]
    with pytest.raises(StageError) as caught:
        merged(tmp_path, {"a.jsonl": json_lines([ALPACA])}, columns)
    told = caught.value.reason, caught.value.message
    assert told == (Reason.DATASET_INVALID, f"datasets[0].columns: {message}")


def test_the_turns_may_have_the_name_of_a_field_that_is_in_them(tmp_path: Path) -> None:
    turns = {"input": [{"input": "q", "output": "a"}]}
    (found,) = merged(tmp_path, {"a.jsonl": json_lines([turns])}, {"messages": "input"}, format="multiTurn")
    assert [turn.content for turn in found.turns] == ["q", "a"]


def test_what_a_row_need_not_have_is_not_read_from_what_another_column_is(tmp_path: Path) -> None:
    (found,) = merged(tmp_path, {"a.jsonl": json_lines([{"input": "q", "output": "a"}])}, {"prompt": "input"})
    assert [turn.content for turn in found.turns] == ["q", "a"]


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"a.jsonl": json_lines([ALPACA, ALPACA, CONTEXT])}, id="in a row after those"),
        pytest.param({"a.jsonl": json_lines([ALPACA] * 2), "b.jsonl": b"PK\x03\x04"}, id="in a file after"),
        pytest.param(
            {"a.json": json.dumps([ALPACA] * 2)[:-1].encode() + b", BROKEN"}, id="in what is broken"
        ),
        pytest.param({"a.csv": b'instruction,output\nq,a\nq,a\nq,"'}, id="in what is broken of a table"),
    ],
)
def test_a_name_is_looked_for_in_the_rows_that_are_used_and_not(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    with pytest.raises(StageError) as caught:
        merged(tmp_path, files, {"query": "context"}, maxSamples=2)

    named = next(iter(files)) if len(files) == 1 else "the 2 files"
    assert caught.value.message.startswith(
        f"datasets[0].columns.query: no row of {named} within maxSamples has a field context (the first has "
    )


def test_bad_rows_ahead_of_the_used_ones_do_not_count(tmp_path: Path) -> None:
    rows = [{"instruction": "q"}, {"instruction": "q", "output": ""}, CONTEXT, ALPACA]

    found = merged(
        tmp_path,
        {"a.jsonl": b"{broken\n" + json_lines(rows)},
        {"query": "context"},
        maxSamples=1,
        onBadRow="skip",
    )

    assert found == [talk("q\nc", "a")]


def test_a_name_that_is_in_the_last_used_row_is_found(tmp_path: Path) -> None:
    rows = json_lines([ALPACA, CONTEXT, ALPACA])

    assert len(merged(tmp_path, {"a.jsonl": rows}, {"query": "context"}, maxSamples=2)) == 2
