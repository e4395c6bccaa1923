"""The recipe's own conversions, and LLaMA-Factory's own tokens, held against what prepare makes."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest

from stages.peer import GLM_TOKENS, Peer, Tokens, smollm2, tiny_glm
from stages.prepare_builders import EMOLLM, Bench, json_lines
from unit.prepare_rows import say

AIWEI = EMOLLM / "aiwei.json"
SELF_COGNITION = EMOLLM / "self_cognition_EmoLLM.json"
RUOZHIBA = EMOLLM / "ruozhiba_raw.jsonl"
FEW = 40
LLAMA_TOKENS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>")

Row = Mapping[str, Any]


def multi_turn_by_hand(data: Sequence[Row], system: str) -> list[Row]:
    """The recipe's conversion of a multi-turn file into alpaca rows."""
    rows: list[Row] = []
    for item in data:
        *earlier, last = item["conversation"]
        rows.append(
            {
                "instruction": last["input"],
                "input": "",
                "output": last["output"],
                "system": system,
                "history": [[turn["input"], turn["output"]] for turn in earlier],
            }
        )
    return rows


def single_turn_by_hand(data: Sequence[Row], system: str) -> list[Row]:
    """The recipe's conversion of a single-turn file into alpaca rows."""
    rows: list[Row] = []
    for item in data:
        output = item["completion"].replace("🐳", "")
        rows.append(
            {"instruction": item["prompt"], "input": "", "output": output, "system": system, "history": []}
        )
    return rows


def alpaca_by_hand(data: Sequence[Row]) -> list[Row]:
    """What is alpaca already."""
    names = ("instruction", "input", "output")
    return [{name: item[name] for name in names} | {"system": "", "history": []} for item in data]


def turns_by_hand(row: Row) -> list[str]:
    """What is said in an alpaca row, in turn."""
    human = "\n".join(text for text in (row["instruction"], row["input"]) if text)
    return [text for pair in row["history"] for text in pair] + [human, row["output"]]


def load(path: Path) -> list[Row]:
    text = path.read_text(encoding="utf-8")
    rows: list[Row] = (
        json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    )
    return rows


def test_the_rows_of_the_real_data_are_the_recipes_row_for_row(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    expected: list[Row] = []
    for path in (SELF_COGNITION, RUOZHIBA, AIWEI):
        bench.add(path.read_bytes(), path.name)
    aiwei = load(AIWEI)
    expected += alpaca_by_hand(load(SELF_COGNITION))
    expected += alpaca_by_hand(load(RUOZHIBA))
    expected += multi_turn_by_hand(aiwei, aiwei[0]["conversation"][0]["system"])
    found = bench.conversations()
    assert len(found) == 85 + 240 + 1600
    assert [conversation.system for conversation in found] == [row["system"] for row in expected]
    assert [[turn.content for turn in row.turns] for row in found] == [turns_by_hand(row) for row in expected]


def test_single_turn_rows_with_a_system_prompt_of_the_dataset_are_the_recipes(tmp_path: Path) -> None:
    data = [
        {"prompt": row["instruction"], "completion": f"🐳{row['output']}"} for row in load(SELF_COGNITION)
    ]
    bench = Bench(tmp_path)
    bench.add(json_lines(data), system="你是心理咨询师", clean={"remove": ("🐳",)})
    found = bench.conversations()
    expected = single_turn_by_hand(data, "你是心理咨询师")
    assert [conversation.system for conversation in found] == [row["system"] for row in expected]
    assert [[turn.content for turn in row.turns] for row in found] == [turns_by_hand(row) for row in expected]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, bytes]]:
    texts = [row["output"] for row in load(RUOZHIBA)]
    glm, llama = (tmp_path_factory.mktemp(name) for name in ("glm", "llama"))
    tokens = (*GLM_TOKENS, *LLAMA_TOKENS)
    return {"smollm2": smollm2(), "glm4": tiny_glm(texts, glm), "llama3": tiny_glm(texts, llama, tokens)}


def prepared(bench: Bench, key: str, split: str = "train") -> Iterator[tuple[list[int], list[int]]]:
    from datasets import load_from_disk

    for row in load_from_disk(str(bench.store.root / "prepared" / key / "dataset"))[split]:
        assert row["attention_mask"] == [1] * len(row["input_ids"])
        yield row["input_ids"], row["labels"]


def has_one_whole_turn(cut: Tokens, uncut: Tokens, which: int) -> bool:
    """Whether the first or last answer of a row is there whole, right after the end of its prompt."""
    (tokens, labels), (all_tokens, all_labels) = cut, uncut
    runs, all_runs = learned_runs(labels), learned_runs(all_labels)
    if tokens == all_tokens:
        return True
    if not runs:
        return False
    (start, end), (first, last) = runs[which], all_runs[which]
    return tokens[start - 3 : end] == all_tokens[first - 3 : last]


def learned_runs(labels: Sequence[int]) -> list[tuple[int, int]]:
    """Where every stretch of learned tokens begins and ends."""
    learned = [False, *(label != -100 for label in labels), False]
    edges = [index for index in range(len(labels) + 1) if learned[index] != learned[index + 1]]
    return list(zip(edges[::2], edges[1::2], strict=True))


ALL_COLUMNS = {
    "columns": {
        "prompt": "instruction",
        "query": "input",
        "response": "output",
        "system": "system",
        "history": "history",
    }
}


@pytest.mark.model
@pytest.mark.parametrize(
    ("model", "training", "arguments", "most"),
    [
        pytest.param(
            "smollm2", {"cutoff_length": 512}, {"cutoff_len": 512}, None, id="every answer, of every row"
        ),
        pytest.param(
            "smollm2",
            {"cutoff_length": 512, "learn_from": "lastTurn"},
            {"cutoff_len": 512, "mask_history": True},
            FEW,
            id="the last answer alone is learned",
        ),
        pytest.param(
            "smollm2",
            {"cutoff_length": 4096, "train_on_prompt": True},
            {"cutoff_len": 4096, "train_on_prompt": True},
            FEW,
            id="prompts are learned too, and nothing is cut",
        ),
        pytest.param(
            "smollm2", {"cutoff_length": 400}, {"cutoff_len": 400}, FEW, id="nearly everything is cut"
        ),
        pytest.param("glm4", {"cutoff_length": 1024}, {"cutoff_len": 1024}, FEW, id="GLM-4, every answer"),
        pytest.param(
            "glm4",
            {"cutoff_length": 1024, "learn_from": "lastTurn"},
            {"cutoff_len": 1024, "mask_history": True},
            FEW,
            id="GLM-4, the last answer alone",
        ),
    ],
)
def test_tokens_and_labels_of_the_recipe_are_llama_factorys(
    tmp_path: Path,
    models: Mapping[str, Mapping[str, bytes]],
    model: str,
    training: Mapping[str, Any],
    arguments: Mapping[str, Any],
    most: int | None,
) -> None:
    aiwei, itself, ruozhiba = (load(path)[:most] for path in (AIWEI, SELF_COGNITION, RUOZHIBA))
    system = aiwei[0]["conversation"][0]["system"]
    merged = [*alpaca_by_hand(itself), *alpaca_by_hand(ruozhiba), *multi_turn_by_hand(aiwei, system)]
    expected = Peer(tmp_path / "peer", models[model]).tokenise(
        merged, ALL_COLUMNS, template=model, **arguments
    )
    whole = Peer(tmp_path / "whole", models[model]).tokenise(
        merged, ALL_COLUMNS, template=model, **{**arguments, "cutoff_len": 100_000}
    )
    last = -1 if "mask_history" in arguments else 0
    kept = [has_one_whole_turn(cut, uncut, last) for cut, uncut in zip(expected, whole, strict=True)]
    expected = [row for row, is_kept in zip(expected, kept, strict=True) if is_kept]
    bench = Bench(tmp_path, models[model])
    for rows in (itself, ruozhiba, aiwei):
        bench.add(json_lines(rows), on_bad_row="skip")
    result = bench.run(**training)
    assert result.dataset.dropped == kept.count(False)
    assert result.template == model
    assert list(prepared(bench, result.key)) == expected
    assert result.dataset.rows == len(expected)
    assert result.dataset.tokens == sum(len(tokens) for tokens, _ in expected)
    assert result.dataset.learned_tokens == sum(label != -100 for _, labels in expected for label in labels)


PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = json.dumps([{"name": "weather", "description": "of a city", "parameters": PARAMETERS}])
CALL = '{"name": "weather", "arguments": {"city": "Oslo"}}'
SHAREGPT = [
    {
        "conversations": [{"from": "human", "value": "Weather?"}, {"from": "gpt", "value": "Where?"}],
        "system": "Be brief.",
        "tools": "",
    },
    {
        "conversations": [
            {"from": "system", "value": "Use tools."},
            {"from": "human", "value": "Weather in Oslo?"},
            {"from": "function_call", "value": CALL},
            {"from": "observation", "value": '{"rain": true}'},
            {"from": "gpt", "value": "It rains."},
        ],
        "system": "",
        "tools": TOOLS,
    },
]
SHAREGPT_INFO = {
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "system": "system", "tools": "tools"},
}
OPENAI = [
    {"messages": [say("system", "Be brief."), say("user", "q"), say("assistant", "a")]},
    {"messages": [say("user", "q"), say("assistant", "a"), say("user", "r"), say("assistant", "b")]},
]
OPENAI_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}
OPENAI_INFO = {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": OPENAI_TAGS}
"""As sharegpt with other names: LLaMA-Factory's converter for openai adds a sentence to the system prompt."""


@pytest.mark.model
@pytest.mark.parametrize(
    ("model", "template", "rows", "info"),
    [
        pytest.param("smollm2", "qwen", SHAREGPT, SHAREGPT_INFO, id="sharegpt with tools, for Qwen"),
        pytest.param("glm4", "glm4", SHAREGPT, SHAREGPT_INFO, id="sharegpt with tools, for GLM-4"),
        pytest.param("smollm2", "chatml", OPENAI, OPENAI_INFO, id="openai"),
    ],
)
def test_tokens_and_labels_of_messages_are_llama_factorys(
    tmp_path: Path,
    models: Mapping[str, Mapping[str, bytes]],
    model: str,
    template: str,
    rows: Sequence[Row],
    info: Mapping[str, Any],
) -> None:
    expected = Peer(tmp_path / "peer", models[model]).tokenise(rows, info, template=template)
    bench = Bench(tmp_path, models[model]).add(json_lines(rows))
    assert list(prepared(bench, bench.run(template).key)) == expected


ODD_TEXTS = (
    'She said "no", twice, and left.',
    "one\ntwo\r\n\nfour",
    "  blanks at both ends\t ",
    "12345",
    "1e5",
    "true",
    "🐳，你好",
    "=SUM(A1:A2); [1, 2]",
)
"""What a table might take for something else than a text."""
ODD_ROWS: Sequence[Row] = [
    {
        "instruction": text,
        "input": "" if index % 2 else text,
        "output": text,
        "system": "" if index % 3 else f"Be brief: {text}",
    }
    for index, text in enumerate(ODD_TEXTS)
]
WITHOUT_HISTORY = {"columns": {name: at for name, at in ALL_COLUMNS["columns"].items() if name != "history"}}
SINGLE_TURN = {"columns": {"prompt": "prompt", "response": "completion", "system": "system"}}


def flat() -> list[Row]:
    """Rows of alpaca, each value a text."""
    real = [*load(SELF_COGNITION)[:FEW], *load(RUOZHIBA)[:FEW]]
    named = [{name: row[name] for name in ("instruction", "input", "output")} for row in real]
    return [*({**row, "system": ""} for row in named), *ODD_ROWS]


def single() -> list[Row]:
    return [
        {"prompt": row["instruction"], "completion": row["output"], "system": row["system"]} for row in flat()
    ]


def several() -> list[Row]:
    aiwei = load(AIWEI)[:FEW]
    return multi_turn_by_hand(aiwei, aiwei[0]["conversation"][0]["system"])


def as_csv(rows: Sequence[Row]) -> bytes:
    sink = StringIO(newline="")
    writer = csv.DictWriter(sink, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().encode()


def as_parquet(rows: Sequence[Row]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), sink)
    return sink.getvalue()


KINDS: Mapping[str, Callable[[Sequence[Row]], bytes]] = {
    "jsonl": json_lines,
    "csv": as_csv,
    "parquet": as_parquet,
}


@pytest.mark.model
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # datasets leaves CSV open
@pytest.mark.parametrize(
    ("kind", "rows", "info", "model"),
    [
        pytest.param("csv", flat, WITHOUT_HISTORY, "smollm2", id="alpaca in CSV"),
        pytest.param("csv", flat, WITHOUT_HISTORY, "glm4", id="alpaca in CSV, for GLM-4"),
        pytest.param("parquet", flat, WITHOUT_HISTORY, "smollm2", id="alpaca in Parquet"),
        pytest.param("parquet", several, ALL_COLUMNS, "smollm2", id="alpaca with history in Parquet"),
        pytest.param("parquet", lambda: SHAREGPT, SHAREGPT_INFO, "glm4", id="sharegpt with tools in Parquet"),
        pytest.param("parquet", lambda: OPENAI, OPENAI_INFO, "smollm2", id="openai in Parquet"),
        pytest.param("jsonl", single, SINGLE_TURN, "smollm2", id="singleTurn in JSON Lines"),
        pytest.param("csv", single, SINGLE_TURN, "smollm2", id="singleTurn in CSV"),
        pytest.param("parquet", single, SINGLE_TURN, "smollm2", id="singleTurn in Parquet"),
    ],
)
def test_tokens_and_labels_of_a_file_of_any_kind_are_llama_factorys(
    tmp_path: Path,
    models: Mapping[str, Mapping[str, bytes]],
    kind: str,
    rows: Callable[[], Sequence[Row]],
    info: Mapping[str, Any],
    model: str,
) -> None:
    """Both read the same bytes."""
    content, name = KINDS[kind](rows()), f"rows.{kind}"
    peer = Peer(tmp_path / "peer", models[model])
    expected = peer.tokenise_file(content, name, info, template=model, cutoff_len=4096)
    assert len(expected) == len(rows())
    bench = Bench(tmp_path, models[model]).add(content, name)
    assert list(prepared(bench, bench.run(model, cutoff_length=4096).key)) == expected


WEATHER = {"name": "weather", "arguments": {"city": "奥斯陆", "days": [1, 2]}}
TIDES = {"name": "tides", "arguments": {"city": "<Oslo>", "days": []}}
"""Their arguments are alike: the table that LLaMA-Factory reads rows into adds nulls where they differ."""
TWO_RESULTS = "1\n</tool_response>\n<tool_response>\n2"


def calling(*functions: Row) -> Row:
    calls = [{"type": "function", "function": function} for function in functions]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def called(*functions: Row) -> Row:
    return {"from": "function_call", "value": json.dumps(functions, ensure_ascii=False)}


def told(role: str, value: str) -> Row:
    return {"from": role, "value": value}


CALLS: Mapping[str, tuple[list[Row], list[Row]]] = {
    "a call, and an answer, after a system prompt": (
        [
            *(say("system", "Use tools."), say("user", "Weather?"), calling(WEATHER)),
            *(say("tool", '{"rain": true}'), say("assistant", "It rains.")),
        ],
        [
            *(told("system", "Use tools."), told("human", "Weather?"), called(WEATHER)),
            *(told("observation", '{"rain": true}'), told("gpt", "It rains.")),
        ],
    ),
    "two calls, one after the other, at the end of a talk": (
        [
            *(say("user", "q"), say("assistant", "a"), say("user", "Weather?"), calling(WEATHER)),
            *(say("tool", "none"), calling(TIDES)),
        ],
        [
            *(told("human", "q"), told("gpt", "a"), told("human", "Weather?"), called(WEATHER)),
            *(told("observation", "none"), called(TIDES)),
        ],
    ),
    "two calls at once, with two results": (
        [
            *(say("user", "Weather and tides?"), calling(WEATHER, TIDES)),
            *(say("tool", "1"), say("tool", "2"), say("assistant", "It rains.")),
        ],
        [
            *(told("human", "Weather and tides?"), called(WEATHER, TIDES)),
            *(told("observation", TWO_RESULTS), told("gpt", "It rains.")),
        ],
    ),
}
"""Conversations in openai's way and in sharegpt's. No turn of sharegpt's has two results: they are joined as
LLaMA-Factory's converter for openai joins them."""
AT_ONCE = "two calls at once, with two results"
OWN_INFO = {
    "formatting": "openai",
    "columns": {"messages": "messages", "tools": "tools"},
    "tags": OPENAI_TAGS | {"observation_tag": "tool", "function_tag": "function_call"},
}
"""LLaMA-Factory's own converter for openai: it changes the system prompt of a row that has one."""


def with_texts(value: Any) -> Any:
    """The same with arguments as OpenAI writes them: JSON in a text."""
    if isinstance(value, list):
        return [with_texts(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: json.dumps(inner) if name == "arguments" else with_texts(inner) for name, inner in value.items()
    }


@pytest.mark.model
@pytest.mark.parametrize(
    ("model", "template", "left_out"),
    [
        pytest.param("smollm2", "qwen", "", id="Qwen"),
        pytest.param("glm4", "glm4", AT_ONCE, id="GLM-4, which calls one at a time"),
        pytest.param("llama3", "llama3", "", id="Llama 3"),
    ],
)
def test_tokens_and_labels_of_calls_in_openai_s_way_are_llama_factorys(
    tmp_path: Path, models: Mapping[str, Mapping[str, bytes]], model: str, template: str, left_out: str
) -> None:
    kept = [both for sentence, both in CALLS.items() if sentence != left_out]
    ours = [{"messages": messages, "tools": TOOLS} for messages, _ in kept]
    theirs = [{"conversations": turns, "tools": TOOLS, "system": ""} for _, turns in kept]
    shared = Peer(tmp_path / "shared", models[model])
    expected = shared.tokenise(theirs, SHAREGPT_INFO, template=template)
    own = Peer(tmp_path / "own", models[model])
    assert own.tokenise(ours[1:], OWN_INFO, template=template) == expected[1:]
    for name, rows in (("objects", ours), ("texts", with_texts(ours))):
        bench = Bench(tmp_path / name, models[model]).add(json_lines(rows))
        assert list(prepared(bench, bench.run(template).key)) == expected


@pytest.mark.model
def test_llama_factory_loads_what_was_prepared(
    tmp_path: Path, models: Mapping[str, Mapping[str, bytes]]
) -> None:
    bench = Bench(tmp_path, models["smollm2"]).add(SELF_COGNITION.read_bytes())
    result = bench.run(evaluation={"fraction": "0.1"})
    assert (result.dataset.rows, result.dataset.eval_rows) == (77, 8)
    peer = Peer(tmp_path / "peer", models["smollm2"])
    for split, name in (("train_dataset", "train"), ("eval_dataset", "validation")):
        found = peer.load(bench.store.root / "prepared" / result.key / "dataset", split)
        assert found == list(prepared(bench, result.key, name))
        assert len(found) == {"train": 77, "validation": 8}[name]
