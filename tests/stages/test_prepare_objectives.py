"""Pairs of answers and plain texts: token for token what LLaMA-Factory makes of them, and what is told."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.evaluation import Evaluation
from lorafinetune.api.reasons import Reason
from lorafinetune.api.training import Dpo
from lorafinetune.contract.outcome import StageError
from stages.peer import Peer, smollm2, tiny_glm
from stages.prepare_builders import EMOLLM, Bench, json_lines

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

Row = dict[str, Any]
PAIR_COLUMNS = ("prompt", "query", "chosen", "rejected", "history", "system")
SHAREGPT = {"messages": "prompt", "chosen": "chosen", "rejected": "rejected"}
TAGS = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}


def raw() -> list[Row]:
    lines = (EMOLLM / "ruozhiba_raw.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def spoken() -> list[str]:
    """Everything that is said in the conversations of the sample, which is more than LLaMA-Factory takes at
    once."""
    talks = json.loads((EMOLLM / "aiwei.json").read_text(encoding="utf-8"))
    return [turn[side] for talk in talks for turn in talk["conversation"] for side in ("input", "output")]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, bytes]]:
    texts = [row["output"] for row in raw()]
    return {"smollm2": smollm2(), "glm4": tiny_glm(texts, tmp_path_factory.mktemp("glm"))}


def prepared(bench: Bench, key: str, split: str = "train") -> Iterator[Row]:
    from datasets import load_from_disk

    yield from load_from_disk(str(bench.store.root / "prepared" / key / "dataset"))[split]


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        pytest.param("glm4", spoken()[:2300], id="short, for GLM-4"),
        pytest.param("smollm2", [row["output"] for row in raw()], id="long, for SmolLM2"),
    ],
)
def test_texts_become_the_rows_that_llama_factory_makes(
    tmp_path: Path, models: Mapping[str, Mapping[str, bytes]], name: str, texts: Sequence[str]
) -> None:
    """More than a thousand texts are two groups, and each drops its end."""
    rows = [{"text": text} for text in texts if text.strip()]
    bench = Bench(tmp_path / "ours", models[name]).add(json_lines(rows), format="text")
    result = bench.run(objective="pt", cutoff_length=256)
    found = list(prepared(bench, result.key))
    peer = Peer(tmp_path / "peer", models[name])
    expected = peer.make("pt", rows, {"columns": {"prompt": "text"}}, cutoff_len=256, template="empty")
    assert [row["input_ids"] for row in found] == [row["input_ids"] for row in expected]
    assert [row["attention_mask"] for row in found] == [row["attention_mask"] for row in expected]
    assert [row["labels"] for row in found] == collated(peer, expected)
    assert result.dataset.rows == len(expected)


def collated(peer: Peer, rows: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """The labels that LLaMA-Factory's trainer makes of rows without any."""
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling

    tokenizer = AutoTokenizer.from_pretrained(peer.scratch / "model")
    get_template_and_fix_tokenizer(tokenizer, DataArguments(template="empty"))
    collator = DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm=False)
    labels: list[list[int]] = collator([dict(row) for row in rows])["labels"].tolist()
    return labels


def pairs() -> list[Row]:
    """Each answer is preferred to that of the next question."""
    rows = raw()
    return [
        {
            "prompt": row["instruction"],
            "input": "" if number % 3 else "Be brief.",
            "chosen": row["output"],
            "rejected": other["output"],
            "history": [["hi", "hello"]] if number % 4 == 0 else [],
            "system": "你是心理咨询师" if number % 5 == 0 else "",
        }
        for number, (row, other) in enumerate(zip(rows, [*rows[1:], rows[0]], strict=True))
    ]


def as_messages(row: Row) -> Row:
    """A pair of a conversation in sharegpt's way."""
    turns = [text for pair in row["history"] for text in pair] + [row["prompt"]]
    return {
        "prompt": [{"from": "gpt" if at % 2 else "human", "value": text} for at, text in enumerate(turns)],
        "chosen": {"from": "gpt", "value": row["chosen"]},
        "rejected": {"from": "gpt", "value": row["rejected"]},
    }


def as_conversations(row: Row) -> Row:
    """A pair of messages with the prompt in both answers."""
    return {side: [*row["prompt"], row[side]] for side in ("chosen", "rejected")}


@pytest.mark.parametrize(
    ("name", "messages", "whole"),
    [
        pytest.param("smollm2", False, False, id="texts, for SmolLM2"),
        pytest.param("glm4", False, False, id="texts, for GLM-4"),
        pytest.param("glm4", True, False, id="messages, for GLM-4"),
        pytest.param("glm4", True, True, id="whole conversations, for GLM-4"),
    ],
)
def test_pairs_become_the_rows_that_llama_factory_makes(
    tmp_path: Path, models: Mapping[str, Mapping[str, bytes]], name: str, messages: bool, whole: bool
) -> None:
    rows = [as_messages(row) for row in pairs()] if messages else pairs()
    columns = {column: {"query": "input"}.get(column, column) for column in PAIR_COLUMNS}
    info = {"formatting": "sharegpt", "columns": SHAREGPT, "tags": TAGS} if messages else {"columns": columns}
    given = [as_conversations(row) for row in rows] if whole else rows
    bench = Bench(tmp_path / "ours", models[name]).add(json_lines(given))
    result = bench.run(name, objective="dpo", cutoff_length=4096)
    found = list(prepared(bench, result.key))
    peer = Peer(tmp_path / "peer", models[name])
    assert found == peer.make("dpo", rows, {"ranking": True, **info}, cutoff_len=4096, template=name)
    both = [row[f"{side}_input_ids"] for row in found for side in ("chosen", "rejected")]
    assert (result.dataset.rows, result.dataset.tokens) == (len(rows), sum(map(len, both)))


def test_a_pair_that_the_cutoff_spoils_is_left_out(
    tmp_path: Path, models: Mapping[str, Mapping[str, bytes]]
) -> None:
    """Those that stay are whole, as LLaMA-Factory makes them without a cutoff."""
    peer = Peer(tmp_path / "peer", models["glm4"])
    columns = {column: {"query": "input"}.get(column, column) for column in PAIR_COLUMNS}
    whole = peer.make("dpo", pairs(), {"ranking": True, "columns": columns}, cutoff_len=4096, template="glm4")
    sides = ("chosen_input_ids", "rejected_input_ids")
    bench = Bench(tmp_path / "ours", models["glm4"]).add(json_lines(pairs()), on_bad_row="skip")
    result = bench.run("glm4", objective="dpo", cutoff_length=256)
    assert list(prepared(bench, result.key)) == [
        row for row in whole if max(len(row[side]) for side in sides) <= 256
    ]
    assert 0 < result.dataset.dropped < len(whole)
    report = bench.report(result.key)
    assert set(report["datasets"][0]["dropped"]) <= {"answer cut off", "prompt cut off"}
    assert len(report["samples"]) == 6
    assert report["padding"] == []
    assert {piece["learned"] for piece in report["samples"][1]} == {True, False}


@pytest.fixture
def bench(tmp_path: Path, models: Mapping[str, Mapping[str, bytes]]) -> Bench:
    return Bench(tmp_path, models["smollm2"])


def texts(count: int) -> bytes:
    return json_lines([{"text": f"Text {number} of a few, in plain words."} for number in range(count)])


def test_what_becomes_of_texts_is_told(bench: Bench) -> None:
    result = bench.add(texts(100)).run(objective="pt", cutoff_length=64, evaluation=Evaluation(count=20))
    report = bench.report(result.key)
    assert result.template == "empty"
    assert report["padding"] == []
    assert result.dataset.formats == ("text",)
    assert (report["rows"], report["evalRows"]) == (80, 20)
    assert (result.dataset.rows, result.dataset.eval_rows) == (
        report["blocks"]["rows"],
        report["blocks"]["evalRows"],
    )
    assert result.dataset.tokens == 64 * result.dataset.rows
    assert len(list(prepared(bench, result.key, "validation"))) == result.dataset.eval_rows
    assert 0 < report["blocks"]["leftTokens"] < 2 * 64
    assert result.estimate is not None
    assert result.estimate.steps == -(-result.dataset.rows // 8)
    assert any(warning.startswith("where a text ends is not learned") for warning in result.warnings)


def test_texts_that_fill_no_row_are_refused(bench: Bench) -> None:
    bench.add(texts(30))
    with pytest.raises(StageError) as caught:
        bench.run(objective="pt", cutoff_length=64, evaluation=Evaluation(count=1))
    assert caught.value.reason is Reason.DATASET_INVALID
    assert caught.value.message == (
        "datasets: 1 texts of 12 tokens in all fill no row of training.cutoffLength 64 to evaluate on"
    )


def test_a_model_without_a_chat_template_learns_texts(
    tmp_path: Path, models: Mapping[str, Mapping[str, bytes]]
) -> None:
    files = {name: data for name, data in models["smollm2"].items() if name != "chat_template.jinja"}
    result = Bench(tmp_path, files).add(texts(30)).run(objective="pt", cutoff_length=64)
    assert result.dataset.rows > 0


def test_beta_is_in_the_key_of_the_training_by_its_value(bench: Bench) -> None:
    """The prepared dataset stays; the default, and the same number in another spelling, change nothing."""
    bench.add(json_lines(pairs()[:4]))
    absent, same, other = (
        bench.run(objective="dpo", dpo=dpo, cutoff_length=2048)
        for dpo in (None, Dpo(beta="1e-1"), Dpo(beta="0.2"))
    )
    assert len({result.key for result in (absent, same, other)}) == 1
    assert absent.train_key == same.train_key != other.train_key
