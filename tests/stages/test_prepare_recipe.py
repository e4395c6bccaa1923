"""The recipe's own conversions, and LLaMA-Factory's own tokens, held against what prepare makes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from stages.peer import Peer, Tokens, smollm2, tiny_glm
from stages.prepare_builders import EMOLLM, Bench, json_lines
from unit.prepare_rows import say

AIWEI = EMOLLM / "aiwei.json"
SELF_COGNITION = EMOLLM / "self_cognition_EmoLLM.json"
RUOZHIBA = EMOLLM / "ruozhiba_raw.jsonl"
FEW = 40

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
    return {"smollm2": smollm2(), "glm4": tiny_glm(texts, tmp_path_factory.mktemp("glm"))}


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
OPENAI_INFO = {
    "formatting": "sharegpt",
    "columns": {"messages": "messages"},
    "tags": {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
    },
}
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
