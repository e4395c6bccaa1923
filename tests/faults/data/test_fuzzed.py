"""Whatever becomes of a good dataset, it ends in rows or in an error with a place: never in a traceback."""

import copy
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faults.data.making import ALPACA, MULTI, OPENAI, SHAREGPT, SINGLE, lines, listed, parquet
from faults.data.objective_cases import ASKED, PAIR, TEXT, TOOL, WHOLE, with_call
from faults.data.reading import read
from lorafinetune.api.reasons import Reason
from lorafinetune.api.training import Objective
from lorafinetune.contract.outcome import StageError
from searching import examples

CALLING = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"x": 1}'}}]}
CALLED = {
    "messages": [ASKED, CALLING, {"role": "tool", "content": "1"}, {"role": "assistant", "content": "a"}]
}
ROWS: list[tuple[dict[str, Any], Objective]] = [
    (ALPACA | {"history": [["q", "a"]], "system": "s"}, "sft"),
    (SINGLE, "sft"),
    (MULTI, "sft"),
    (SHAREGPT | {"tools": [TOOL]}, "sft"),
    (with_call('{"name": "f", "arguments": {"x": 1}}'), "sft"),
    (OPENAI, "sft"),
    (CALLED, "sft"),
    (PAIR | {"input": "x", "history": [["q", "a"]], "system": "s", "tools": [TOOL]}, "dpo"),
    (PAIR | {"prompt": [ASKED], "chosen": {"from": "gpt", "value": "a"}}, "dpo"),
    (WHOLE | {"prompt": "q"}, "dpo"),
    (TEXT, "pt"),
]
CSV = b'instruction,output,history\nq,"a, b","[[""q"", ""a""]]"\n"two\nlines","x ""y""",\n'
FILES = {
    "rows.json": listed(*[ALPACA] * 3),
    "rows.jsonl": lines(*[ALPACA] * 3),
    "rows.csv": CSV,
    "rows.parquet": parquet({name: [value or "x"] * 20 for name, value in ALPACA.items()}),
    "nested.parquet": parquet({"messages": [OPENAI["messages"]] * 20}, compression="none"),
}

texts = st.text(max_size=4) | st.sampled_from(["\0", "\ud800", "<|im_end|>", " ", "system", "gpt", "[", "{}"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def outcome(
    name: str, content: bytes, fields: Mapping[str, Any] = {}, objective: Objective = "sft"
) -> int | StageError:
    """The number of good rows, or the error."""
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / name).write_bytes(content)
        try:
            return read(Path(root), fields, objective)
        except StageError as error:
            return error


def sites(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place inside a value, as what holds it and its key or index there."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield value, key
        yield from sites(child)


@given(row=st.sampled_from(ROWS), other=anything, data=st.data())
@settings(max_examples=examples(200))
def test_a_row_with_anything_in_some_place(
    row: tuple[dict[str, Any], Objective], other: Any, data: st.DataObject
) -> None:
    good, objective = row
    spoiled = copy.deepcopy(good)
    holder, key = data.draw(st.sampled_from(list(sites(spoiled))))
    holder[key] = other
    content = lines(good) + json.dumps(spoiled).encode()
    assert outcome("rows.jsonl", content, {"onBadRow": "skip"}, objective) in (1, 2)


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@settings(max_examples=examples(40))
def test_a_file_with_other_bytes_in_some_places(name: str, data: st.DataObject) -> None:
    content = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    found = outcome(name, bytes(content))
    if isinstance(found, StageError):
        assert found.reason is Reason.DATASET_INVALID
        assert found.message.replace("\n", "").isprintable()
        assert found.hint
