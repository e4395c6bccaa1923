"""Pairs of answers and plain texts: what their rows become, and what is said of bad ones."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lorafinetune.api.datasets import Clean, Dataset
from lorafinetune.api.training import Objective
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.conversation import Conversation, Turn
from lorafinetune_stages.prepare.corpus import Corpus
from lorafinetune_stages.prepare.findings import Findings, Place, RowError
from lorafinetune_stages.prepare.format_detection import find_reader
from lorafinetune_stages.prepare.formats import table_columns
from lorafinetune_stages.prepare.identity import said_names
from lorafinetune_stages.prepare.merger import Merger
from lorafinetune_stages.prepare.row_reader import read_rows
from lorafinetune_stages.store import ignore_progress
from stages.prepare_builders import alpaca, json_lines
from unit.prepare_rows import CALL, TEXTS, convert, fetched, gpt, human, part, say, talk

PAIR = {"prompt": "q", "chosen": "good", "rejected": "bad"}
WHOLE = [say("user", "q"), say("assistant", "good")]
OTHER = [say("user", "q"), say("assistant", "bad")]
TEXT = {"text": "Once upon a time."}


def pair(*turns: str, system: str = "") -> Conversation:
    """The last two texts are the chosen answer and the rejected one."""
    *before, rejected = turns
    chosen = talk(*before, system=system)
    return replace(chosen, turns=(*chosen.turns, Turn("assistant", rejected)))


@pytest.mark.parametrize(
    ("row", "columns", "expected"),
    [
        pytest.param(PAIR, {}, pair("q", "good", "bad"), id="three texts"),
        pytest.param(
            PAIR | {"input": "more", "system": "s", "history": [["q1", "a1"]]},
            {},
            pair("q1", "a1", "q\nmore", "good", "bad", system="s"),
            id="what alpaca has beside them",
        ),
        pytest.param(
            {"instruction": "q", "yes": "good", "no": "bad"},
            {"prompt": "instruction", "response": "yes", "rejected": "no"},
            pair("q", "good", "bad"),
            id="columns of other names",
        ),
        pytest.param(
            {
                "conversations": [human("q1"), gpt("a1"), human("q")],
                "chosen": gpt("good"),
                "rejected": gpt("bad"),
            },
            {"prompt": "conversations"},
            pair("q1", "a1", "q", "good", "bad"),
            id="messages of sharegpt",
        ),
        pytest.param(
            {
                "prompt": [say("system", "s"), say("user", "q")],
                "chosen": [say("assistant", "good")],
                "rejected": [say("assistant", "bad")],
            },
            {},
            pair("q", "good", "bad", system="s"),
            id="messages of openai, each answer in a list",
        ),
        pytest.param(
            {
                "prompt": [say("user", "q1"), say("assistant", "a1", weight=0), say("user", [part("q")])],
                "chosen": say("assistant", [part("good")]),
                "rejected": say("assistant", "bad"),
            },
            {},
            pair("q1", "a1", "q", "good", "bad"),
            id="messages of openai with parts, and an answer of before that is not to be learned",
        ),
        pytest.param(
            {"prompt": [say("user", "q")], "chosen": "good", "rejected": "bad"},
            {},
            pair("q", "good", "bad"),
            id="messages, and answers that are texts",
        ),
        pytest.param(
            {
                "chosen": [say("system", "s"), say("user", "q"), say("assistant", "good")],
                "rejected": [say("system", "s"), say("user", "q"), say("assistant", "bad")],
            },
            {},
            pair("q", "good", "bad", system="s"),
            id="whole conversations",
        ),
        pytest.param(
            {
                "prompt": "q",
                "chosen": [say("user", "q"), say("assistant", "good")],
                "rejected": [say("user", "q"), say("assistant", "bad")],
                "score": 1,
            },
            {},
            pair("q", "good", "bad"),
            id="whole conversations, and the prompt once more as a text",
        ),
        pytest.param(
            {
                "prompt": [human("q1"), gpt("a1"), human("q")],
                "yes": [human("q1"), gpt("a1"), human("q"), gpt("good")],
                "no": [human("q1"), gpt("a1"), human("q"), gpt("bad")],
                "system": "s",
            },
            {"response": "yes", "rejected": "no"},
            pair("q1", "a1", "q", "good", "bad", system="s"),
            id="whole conversations of sharegpt, and the prompt once more as messages",
        ),
    ],
)
def test_a_pair_becomes_a_prompt_and_two_answers(
    row: dict[str, Any], columns: dict[str, str], expected: Conversation
) -> None:
    assert convert(row, "preference", "dpo", **columns) == expected
    assert convert(row, "auto", "dpo", **columns) == expected


def as_csv(root: Path, row: dict[str, Any]) -> Path:
    file = root / "a.csv"
    with file.open("w", encoding="utf-8", newline="") as written:
        csv.writer(written).writerows([row, row.values()])
    return file


def as_parquet(root: Path, row: dict[str, Any]) -> Path:
    file = root / "a.parquet"
    pq.write_table(pa.table({name: [cell] for name, cell in row.items()}), file)
    return file


def from_table(file: Path, **fields: Any) -> Conversation:
    """The one row of a table of pairs."""
    dataset = Dataset.decode({"source": "s3://raw/a", **fields})
    rows = list(read_rows(file, file.name, ignore_progress, table_columns(dataset, "dpo")))
    return find_reader(dataset, 0, rows, "dpo").convert(rows[0][1], TEXTS)


@pytest.mark.parametrize("write", [as_csv, as_parquet])
@pytest.mark.parametrize("name", ["preference", "auto"])
@pytest.mark.parametrize(
    ("row", "columns", "expected"),
    [
        pytest.param(
            {"chosen": json.dumps(WHOLE), "rejected": json.dumps(OTHER)},
            {},
            pair("q", "good", "bad"),
            id="whole conversations",
        ),
        pytest.param(
            {
                "prompt": json.dumps([say("user", "q")]),
                "chosen": json.dumps(WHOLE[1:]),
                "rejected": json.dumps(OTHER[1:], indent=1),
            },
            {},
            pair("q", "good", "bad"),
            id="messages for a prompt and for both answers",
        ),
        pytest.param(
            {"talk": json.dumps([human("q")]), "chosen": "good", "rejected": "bad"},
            {"prompt": "talk"},
            pair("q", "good", "bad"),
            id="messages for a prompt in a column of another name",
        ),
        pytest.param(
            {"prompt": "[1]", "chosen": '[{"city": "Rome"}]', "rejected": "[{]"},
            {},
            pair("[1]", '[{"city": "Rome"}]', "[{]"),
            id="lists of something else, which are texts",
        ),
    ],
)
def test_in_a_table_messages_of_pairs_may_be_json(
    tmp_path: Path,
    write: Any,
    name: str,
    row: dict[str, Any],
    columns: dict[str, str],
    expected: Conversation,
) -> None:
    assert from_table(write(tmp_path, row), format=name, columns=columns) == expected


@pytest.mark.parametrize("write", [as_csv, as_parquet])
def test_messages_of_pairs_that_are_no_json_are_no_answer(tmp_path: Path, write: Any) -> None:
    """As pandas writes lists into CSV."""
    file = write(tmp_path, {"prompt": "q", "chosen": str(WHOLE[1:]), "rejected": "bad"})
    rows = read_rows(file, file.name, ignore_progress, table_columns(Dataset(source="s3://raw/a"), "dpo"))
    assert [str(row) for _, row in rows] == ["chosen: the cell is a text, and not a list as JSON"]


@pytest.mark.parametrize(
    ("row", "columns", "text"),
    [
        pytest.param(TEXT, {}, "Once upon a time.", id="a text"),
        pytest.param(
            {"text": " a\n\n", "url": 5}, {}, " a\n\n", id="white space is kept, and the rest not read"
        ),
        pytest.param({"content": "a"}, {"text": "content"}, "a", id="a column of another name"),
    ],
)
def test_a_text_is_learned_as_it_is(row: dict[str, Any], columns: dict[str, str], text: str) -> None:
    for name in ("text", "auto"):
        assert convert(row, name, "pt", **columns) == Conversation((Turn("assistant", text),))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param({"prompt": "q", "chosen": "a"}, "rejected: the answer is missing", id="one answer"),
        pytest.param(PAIR | {"chosen": None}, "chosen: the answer is missing", id="a null for an answer"),
        pytest.param(PAIR | {"rejected": " \n"}, "rejected: the answer is empty", id="an empty answer"),
        pytest.param(
            PAIR | {"rejected": "good"}, "rejected: the rejected answer is the chosen one", id="equal answers"
        ),
        pytest.param(PAIR | {"chosen": 5}, "chosen: is a number, not a text", id="a number for an answer"),
        pytest.param(PAIR | {"prompt": ""}, "prompt: the prompt is empty", id="an empty prompt"),
        pytest.param({"chosen": "a", "rejected": "b"}, "prompt: the prompt is missing", id="no prompt"),
        pytest.param(
            PAIR | {"prompt": {"a": 1}}, "prompt: is an object, not a text", id="an object for a prompt"
        ),
        pytest.param(PAIR | {"prompt": []}, "prompt: has no turns", id="a prompt of no messages"),
        pytest.param(
            PAIR | {"prompt": [say("user", "q"), say("assistant", "a")]},
            "prompt[1]: the last turn of a prompt must ask",
            id="a prompt that ends in an answer",
        ),
        pytest.param(
            PAIR | {"prompt": [say("assistant", "a")]},
            "prompt[0]: a prompt or a tool's result is expected, not assistant",
            id="a prompt that begins with an answer",
        ),
        pytest.param(
            PAIR | {"chosen": [say("user", "q"), say("assistant", "a")]},
            "rejected: is no whole conversation, as the other answer is",
            id="a whole conversation for one of the answers",
        ),
        pytest.param(
            PAIR | {"chosen": WHOLE, "rejected": [say("user", "r"), say("assistant", "b")]},
            "rejected: differs from chosen before the last message",
            id="conversations that part too early",
        ),
        pytest.param(
            PAIR | {"chosen": WHOLE, "rejected": WHOLE},
            "rejected: the rejected answer is the chosen one",
            id="equal conversations",
        ),
        pytest.param(
            PAIR | {"chosen": WHOLE, "rejected": [*WHOLE, say("user", "r"), say("assistant", "b")]},
            "rejected: differs from chosen before the last message",
            id="conversations of which one goes on",
        ),
        pytest.param(
            PAIR | {"chosen": WHOLE[::-1], "rejected": WHOLE[::-1]},
            "chosen[0]: a prompt or a tool's result is expected, not assistant",
            id="conversations that begin with an answer",
        ),
        pytest.param(
            PAIR | {"chosen": [*WHOLE, say("user", "r")], "rejected": [*WHOLE, say("user", "s")]},
            "chosen[1]: the last turn of a prompt must ask",
            id="conversations that end with a prompt",
        ),
        pytest.param(
            PAIR | {"prompt": "other", "chosen": WHOLE, "rejected": OTHER},
            "prompt: is not what the conversations ask",
            id="conversations that ask something else than the prompt",
        ),
        pytest.param(
            PAIR | {"prompt": [say("user", "other")], "chosen": WHOLE, "rejected": OTHER},
            "prompt: is not what the conversations ask",
            id="conversations that ask something else than the prompt's messages",
        ),
        pytest.param(
            PAIR | {"history": [["q", "a"]], "chosen": WHOLE, "rejected": OTHER},
            "history: does not go with whole conversations",
            id="conversations with a history beside them",
        ),
        pytest.param(
            PAIR | {"chosen": WHOLE, "rejected": [say("user", "q"), "b"]},
            "rejected[1]: is a text, not an object",
            id="a conversation whose answer is a text",
        ),
        pytest.param(
            PAIR | {"rejected": [say("user", "a")]},
            "rejected[0]: an answer is expected, not user",
            id="a message of the user for an answer",
        ),
        pytest.param(
            PAIR | {"chosen": {"from": "function_call", "value": str(CALL).replace("'", '"')}},
            "chosen: an answer is expected, not function",
            id="a call of a tool for an answer",
        ),
        pytest.param(
            PAIR | {"chosen": "a<|im_end|>"},
            "chosen: the text has the special token '<|im_end|>'",
            id="a special token in an answer",
        ),
        pytest.param(
            PAIR | {"rejected": "a\x00"}, "rejected: character 1 is U+0000", id="a control character"
        ),
        pytest.param(["q", "a", "b"], "the row is a list, not an object", id="a list for a row"),
    ],
)
def test_a_pair_is_bad_with(row: Any, message: str) -> None:
    assert said_of("preference", "dpo", PAIR, row) == message


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param({"title": "t"}, "text: the text is missing", id="no text"),
        pytest.param({"text": None}, "text: the text is missing", id="a null for a text"),
        pytest.param({"text": ""}, "text: the text is empty", id="an empty text"),
        pytest.param({"text": " \n\t　"}, "text: the text is empty", id="a text of white space"),
        pytest.param({"text": ["a"]}, "text: is a list, not a text", id="a list for a text"),
        pytest.param({"text": 1.5}, "text: is a number, not a text", id="a number for a text"),
        pytest.param(
            {"text": "a<s>b"}, "text: the text has the special token '<s>'", id="a special token in a text"
        ),
        pytest.param({"text": "a\x1b[2J"}, "text: character 1 is U+001B", id="a control character"),
        pytest.param({"text": "\ud800"}, "text: character 0 is a lone surrogate", id="half a character"),
        pytest.param("a text", "the row is a text, not an object", id="a text that is in no object"),
    ],
)
def test_a_text_is_bad_with(row: Any, message: str) -> None:
    assert said_of("text", "pt", TEXT, row) == message


def said_of(name: str, objective: Objective, good: Any, row: Any) -> str:
    """What is said of a row after a good one."""
    dataset = Dataset.decode({"source": "s3://raw/a", "format": name})
    reader = find_reader(dataset, 0, [(Place("a", 1), good)], objective)
    with pytest.raises(RowError) as caught:
        reader.convert(row, TEXTS)
    return str(caught.value)


@pytest.mark.parametrize(
    ("objective", "row", "message", "hint"),
    [
        pytest.param(
            "sft",
            PAIR,
            "datasets[0].format: a:1 has the fields prompt, chosen, rejected: that is preference, for "
            "training.objective: dpo",
            "Set `spec.training.objective: dpo`, or name the columns in datasets[0].columns.",
            id="pairs for sft",
        ),
        pytest.param(
            "pt",
            alpaca("q", "a"),
            "datasets[0].format: a:1 has the fields instruction, input, output: that is alpaca, for "
            "training.objective: sft",
            "Set `spec.training.objective: sft`, or name the columns in datasets[0].columns.",
            id="conversations for pt",
        ),
        pytest.param(
            "dpo",
            {"question": "q", "chosen": "a", "rejected": "b"},
            "datasets[0].format: auto can't tell the format: a:1 has the fields question, chosen, rejected: "
            "fits no format (preference needs prompt, chosen and rejected)",
            "Set datasets[0].format, and name the columns in its columns where they differ.",
            id="another column for a prompt",
        ),
        pytest.param(
            "dpo",
            {"conversations": [human("q")], "chosen": gpt("a"), "rejected": gpt("b")},
            "datasets[0].format: auto can't tell the format: a:1 has the fields conversations: "
            "[{from, value}], chosen, rejected: preference lacks its prompt",
            "Set `datasets[0].columns.prompt: conversations`.",
            id="pairs as LLaMA-Factory has them",
        ),
        pytest.param(
            "dpo",
            alpaca("q", "a", chosen="a", rejected="b"),
            "datasets[0].format: auto can't tell the format: a:1 has the fields instruction, input, output, "
            "chosen, rejected: fits no format (preference needs prompt, chosen and rejected)",
            "Set datasets[0].format, and name the columns in its columns where they differ.",
            id="pairs in the fields of alpaca",
        ),
        pytest.param(
            "sft",
            {"prompt": [say("user", "q")], "chosen": "a", "rejected": "b"},
            "datasets[0].format: a:1 has the fields prompt: [{role, content}], chosen, rejected: that is "
            "preference, for training.objective: dpo",
            "Set `spec.training.objective: dpo`, or name the columns in datasets[0].columns.",
            id="pairs with messages for sft",
        ),
    ],
)
def test_rows_of_another_objective_are_told(
    objective: Objective, row: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(StageError) as caught:
        find_reader(Dataset(source="s3://raw/a"), 0, [(Place("a", 1), row)], objective)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_column_of_text_beside_others_does_not_change_what_is_recognised() -> None:
    """As in the first alpaca of all, which has the whole conversation in a column of its own."""
    assert convert(alpaca("q", "a", text="q a")) == talk("q", "a")


CLEANED = [
    pytest.param(
        "dpo",
        PAIR | {"rejected": "good🐳"},
        "after cleaning: the rejected answer is the chosen one",
        id="equal",
    ),
    pytest.param(
        "dpo", PAIR | {"chosen": "🐳"}, "answer 1: nothing is left after cleaning", id="no chosen answer"
    ),
    pytest.param(
        "dpo",
        PAIR | {"rejected": "🐳"},
        "the rejected answer: nothing is left after cleaning",
        id="no rejected one",
    ),
    pytest.param("pt", {"text": "🐳"}, "the text: nothing is left after cleaning", id="no text"),
]


@pytest.mark.parametrize(("objective", "row", "message"), CLEANED)
def test_after_cleaning_there_may_be(
    tmp_path: Path, objective: Objective, row: dict[str, Any], message: str
) -> None:
    findings, _ = merged(tmp_path, objective, row)
    assert findings.places == [f"datasets[0]: rows.jsonl:1: {message}"]


@pytest.mark.parametrize(
    ("objective", "row", "turns"),
    [
        pytest.param(
            "dpo",
            {"prompt": "🐳", "chosen": "good🐳", "rejected": "🐳bad"},
            pair("🐳", "good", "bad").turns,
            id="both answers",
        ),
        pytest.param("pt", {"text": "a🐳b"}, (Turn("assistant", "ab"),), id="a text"),
    ],
)
def test_cleaned_is_what_is_learned(
    tmp_path: Path, objective: Objective, row: dict[str, Any], turns: tuple[Turn, ...]
) -> None:
    findings, rows = merged(tmp_path, objective, row)
    assert findings.bad == 0
    assert [row.turns for row in rows] == [turns]


def merged(root: Path, objective: Objective, *rows: Any) -> tuple[Findings, list[Conversation]]:
    """The rows, read and cleaned of whales."""
    dataset = Dataset(source="s3://raw/a", clean=Clean(remove=("🐳",)))
    findings = Findings([dataset])
    with Corpus(root / "rows") as corpus:
        merger = Merger(corpus, findings, TEXTS, root, ignore_progress, objective)
        merger.merge([fetched(root, dataset, json_lines(rows))])
        return findings, [row for _, row in corpus.read(range(len(corpus)))]


def test_answers_are_all_equal_where_the_chosen_ones_are(tmp_path: Path) -> None:
    """That every pair has the same rejected answer says nothing: no one learns it."""
    with Corpus(tmp_path / "file") as corpus:
        for rows in ([("a", "no"), ("b", "no")], [("yes", "c"), ("yes", "d")]):
            corpus.begin_dataset()
            for chosen, rejected in rows:
                corpus.append(Place("a", 1), pair("q", chosen, rejected))
        assert corpus.monotonous() == [1]


def test_a_rejected_answer_is_no_introduction() -> None:
    rows = [pair("Who are you?", "I am EmoLLM.", "I am SmolLM.").without_rejected()] * 3
    assert said_names(rows) == {"EmoLLM": 3}
    assert talk("q", "a").without_rejected() == talk("q", "a")


def test_texts_are_told_apart_and_equal_ones_are_found(tmp_path: Path) -> None:
    """A text has no prompt, by which it could be taken for another one."""
    (tmp_path / "rows").mkdir()
    with Corpus(tmp_path / "rows" / "file") as corpus:
        corpus.begin_dataset()
        for text in ("a", "b", "a"):
            corpus.append(Place("a", 1), Conversation((Turn("assistant", text),)))
        assert list(corpus.fingerprints.repeated()) == [2]
        assert corpus.fingerprints.overlap([0], [1]).prompts == 0
        assert corpus.fingerprints.overlap([0], [2]).prompts == 1
