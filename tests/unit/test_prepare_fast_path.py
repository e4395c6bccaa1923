"""The short way into the corpus: what it takes, the careful way would take, too, and make the same of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorafinetune.api.datasets import Clean, Columns, Dataset
from lorafinetune.api.training import Objective
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare import fast_path, lines, row_reader, rowfile, workers
from lorafinetune_stages.prepare.corpus import Corpus
from lorafinetune_stages.prepare.findings import Findings
from lorafinetune_stages.prepare.merger import Merger
from lorafinetune_stages.prepare.texts import Texts
from lorafinetune_stages.store import ignore_progress
from searching import examples
from unit.prepare_rows import fetched

TEXTS = Texts({"<|im_end|>", "</s>", 'a"b'})
CAREFUL = Clean(remove=("\ufffe",))
"""No text has what it removes; rows that are cleaned go the careful way."""

ALPACA = {"instruction": "q", "input": "", "output": "a", "system": "s", "history": [["r", "b"]]}
MULTI = {"conversation": [{"system": "s", "input": "q", "output": "a"}, {"input": "r", "output": "b"}]}
SHAREGPT = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "tools": ""}
OPENAI = {
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a", "tool_calls": None, "weight": 1},
    ],
    "system": "none of its business",
}
TEXT = {"text": "a", "id": 1, "score": 0.5}
ROWS: dict[str, tuple[Objective, dict[str, Any]]] = {
    "alpaca": ("sft", ALPACA),
    "singleTurn": ("sft", {"prompt": "q", "completion": "a"}),
    "multiTurn": ("sft", MULTI),
    "sharegpt": ("sft", SHAREGPT),
    "openai": ("sft", OPENAI),
    "text": ("pt", TEXT),
}

Outcome = tuple[Any, ...]


def merged(
    root: Path, content: bytes, objective: Objective, dataset: Dataset, advance: Any = ignore_progress
) -> Outcome:
    """All that is known of the rows after they were read; or the error."""
    findings = Findings([dataset])
    with Corpus(root / "rows") as corpus:
        try:
            merger = Merger(corpus, findings, TEXTS, root, advance, objective)
            merger.merge([fetched(root, dataset, content)])
        except StageError as error:
            return error.message, error.hint
        rows = list(corpus.read(range(len(corpus))))
        known = corpus.fingerprints, corpus.sizes, corpus.formats, corpus.monotonous()
        return findings.rows, findings.kinds, findings.places, rows, *known


def both_ways(root: Path, content: bytes, objective: Objective = "sft", **fields: Any) -> Outcome:
    """The outcome, which is the same as that of the careful way."""
    dataset = Dataset(source="s3://raw/a", **fields)
    found = merged(root, content, objective, dataset)
    careful = dataset.model_copy(update={"clean": CAREFUL})
    assert found == merged(root, content, objective, careful)
    return found


def encoded(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


HOSTILE = (
    "\0",
    "\u200b",
    " \u200ba",
    "\u3164",
    "\u2800a",
    "\x7f",
    "\x85",
    "\ud800",
    "</s>",
    'a"b',
    '\\"',
    "\\beta",
    " \n",
    "system",
    "gpt",
)
NUMBERS = (0, 10**400, 2**80)
texts = st.text(max_size=4) | st.sampled_from(HOSTILE)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.sampled_from(NUMBERS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def sites(value: Any) -> list[tuple[Any, Any]]:
    """Every place inside a value, as what holds it and its key or index there."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [site for key, child in inner for site in ((value, key), *sites(child))]


@pytest.mark.parametrize("name", ROWS)
@given(data=st.data(), block=st.integers(1, 400))
@settings(max_examples=examples(60))
def test_both_ways_end_in_the_same(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject, block: int
) -> None:
    objective, row = ROWS[name]
    rows = [json.loads(json.dumps(row)) for _ in range(data.draw(st.integers(1, 5)))]
    for spoiled in data.draw(st.lists(st.sampled_from(rows), max_size=3)):
        holder, key = data.draw(st.sampled_from(sites(spoiled)))
        holder[key] = data.draw(values)
    rows.append(row | data.draw(st.dictionaries(texts, values, max_size=2)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", block)
        patch.setattr(rowfile, "BLOCK_BYTES", block)
        both_ways(tmp_path_factory.getbasetemp(), encoded(*rows), objective)


GOOD = encoded(ALPACA)


@pytest.mark.parametrize(
    ("line", "place"),
    [
        pytest.param(
            b'{"instruction": "q", "output": "a", "output": "b"}',
            "rows.jsonl:2: output: the field is given twice",
            id="a field given twice",
        ),
        pytest.param(
            b'{"instruction": "q", "output": "\\"\\\\", "id": 1, "id": 2}',
            "rows.jsonl:2: id: the field is given twice",
            id="a field given twice that nobody reads, beside quotes",
        ),
        pytest.param(
            b'{"instruction": "q", "input": 0, "output": "a", "x": null, "x": null}',
            "rows.jsonl:2: x: the field is given twice",
            id="a field given twice, and one text too few",
        ),
        pytest.param(
            b'{"instruction": "q", "output": "a\\u003c/s>"}',
            "rows.jsonl:2: output: the text has the special token '</s>'",
            id="a special token in other words",
        ),
        pytest.param(
            b'{"instruction": "q", "output": "<\\/s>"}',
            "rows.jsonl:2: output: the text has the special token '</s>'",
            id="a special token with a slash that need not be escaped",
        ),
        pytest.param(
            b'{"instruction": "q", "output": "\\b"}',
            "rows.jsonl:2: output: character 0 is U+0008",
            id="an escaped control character",
        ),
        pytest.param(
            '{"instruction": "q", "output": "\x85"}'.encode(),
            "rows.jsonl:2: output: character 0 is U+0085",
            id="a control character of two bytes",
        ),
        pytest.param(
            b'{"instruction": "q", "output": "a", "id": ' + b"9" * 5000 + b"}",
            "rows.jsonl:2: a number has more digits than can be read",
            id="a number that the standard library does not read",
        ),
        pytest.param(
            b'{"instruction": "q", "output": "a", "id": ' + b"[" * 1010 + b"]" * 1010 + b"}",
            "rows.jsonl:2: the row is nested too deep",
            id="a nesting that orjson reads, and the standard library does not",
        ),
        pytest.param(
            b'{"instruction": "q", "output": "a", "history": {"ab": 1}}',
            "rows.jsonl:2: history: is an object, not a list of pairs",
            id="an object for a list",
        ),
        pytest.param(
            b'{"instruction": "q", "output": "a", "history": ["ab"]}',
            "rows.jsonl:2: history[0]: is not a pair of a prompt and an answer",
            id="a text for a pair",
        ),
    ],
)
def test_a_line_that_is_out_of_the_ordinary_is_looked_at(tmp_path: Path, line: bytes, place: str) -> None:
    _, _, places, rows, *_ = both_ways(tmp_path, GOOD + line + b"\n" + GOOD)
    assert places == [f"datasets[0]: {place}"]
    assert [at for at, _ in rows] == ["rows.jsonl:1", "rows.jsonl:3"]


@pytest.mark.parametrize(
    ("fields", "systems"),
    [
        pytest.param({}, ["s", ""], id="a row's own is kept"),
        pytest.param({"system": "t"}, ["t", "t"], id="a dataset's takes its place"),
        pytest.param({"system": "t", "max_samples": 1}, ["t"], id="no more rows than are asked for"),
        pytest.param({"columns": Columns(response="output")}, ["s", ""], id="a column that is named"),
    ],
)
def test_what_a_dataset_asks_for_is_done(tmp_path: Path, fields: dict[str, Any], systems: list[str]) -> None:
    _, _, places, rows, *_ = both_ways(tmp_path, GOOD + encoded({**ALPACA, "system": None}), **fields)
    assert [conversation.system for _, conversation in rows] == systems
    assert places == []


def test_a_system_prompt_is_looked_at_even_if_another_takes_its_place(tmp_path: Path) -> None:
    _, _, places, *_ = both_ways(tmp_path, GOOD + encoded({**ALPACA, "system": "</s>"}), system="t")
    assert places == ["datasets[0]: rows.jsonl:2: system: the text has the special token '</s>'"]


def test_many_rows_come_back_in_their_order(tmp_path: Path) -> None:
    """Some of them are written in a way that is looked at."""
    prompts = [f"q{number}" for number in range(4000)]
    content = encoded(*({"instruction": prompt, "output": "a" * 999} for prompt in prompts))
    odd = content.replace(b'"q7', b'"\\u00717').replace(b'"q99', b'"q\\/99')
    _, _, _, rows, *_ = both_ways(tmp_path, odd)
    assert [row.turns[0].content.replace("/", "") for _, row in rows] == prompts


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="all rows"),
        pytest.param({"max_samples": 77}, id="some rows"),
        pytest.param({"system": "t"}, id="rows with another system prompt"),
    ],
)
def test_rows_are_the_same_however_many_processes_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int, fields: dict[str, Any]
) -> None:
    monkeypatch.setattr(workers, "processors", lambda: processes)
    monkeypatch.setattr(row_reader, "FEW_STRETCHES", 1)
    monkeypatch.setattr(fast_path, "STRETCH_BYTES", 300)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 100)
    monkeypatch.setattr(rowfile, "BLOCK_BYTES", 100)
    good = (ALPACA | {"instruction": f"q{number}"} for number in range(100))
    rows = [
        encoded(row | {"output": ""}) if number % 9 == 5 else encoded(row) for number, row in enumerate(good)
    ]
    content = b"".join(rows) + b'{"broken\n\n' + GOOD * 3 + GOOD.rstrip()
    _, _, places, *_ = both_ways(tmp_path, content, on_bad_row="skip", **fields)
    assert places[0] == "datasets[0]: rows.jsonl:6: output: the answer is empty"
