"""Formats: how each is recognised, and what its rows become."""

import json
from typing import Any

import pytest

from lorafinetune.api.datasets import Columns, Dataset
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.conversation import Conversation, Turn
from lorafinetune_stages.prepare.findings import Place
from lorafinetune_stages.prepare.format_detection import find_reader
from lorafinetune_stages.prepare.formats import recognise
from unit.prepare_rows import ALPACA, CALL, OPENAI, SHAREGPT, TOOL, convert, gpt, human, part, say, talk


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param(
            {"instruction": "q", "input": "", "output": "a"}, talk("q", "a"), id="alpaca without an input"
        ),
        pytest.param(
            {"instruction": "q", "input": "i", "output": "a"}, talk("q\ni", "a"), id="alpaca with an input"
        ),
        pytest.param(
            {"instruction": "", "input": "i", "output": "a"}, talk("i", "a"), id="alpaca with an input alone"
        ),
        pytest.param(
            {"instruction": "q", "input": None, "output": "a", "history": None, "system": None},
            talk("q", "a"),
            id="alpaca with nulls",
        ),
        pytest.param(
            {"instruction": "q", "output": "a", "history": [["q1", "a1"], ["q2", "a2"]], "system": "s"},
            talk("q1", "a1", "q2", "a2", "q", "a", system="s"),
            id="alpaca with history and system",
        ),
        pytest.param(
            {"prompt": " q", "completion": "a\n"}, talk(" q", "a\n"), id="singleTurn keeps white space"
        ),
        pytest.param(
            {
                "conversation": [
                    {"system": "s", "input": "q1", "output": "a1"},
                    {"input": "q2", "output": "a2"},
                ]
            },
            talk("q1", "a1", "q2", "a2", system="s"),
            id="multiTurn with its system prompt in the first turn",
        ),
        pytest.param(
            {"conversation": [{"input": "q", "output": "a", "system": ""}], "system": "s"},
            talk("q", "a", system="s"),
            id="multiTurn with its system prompt beside the turns",
        ),
        pytest.param(
            {"conversations": [human("q"), gpt("a")], "system": "s"},
            talk("q", "a", system="s"),
            id="sharegpt with a system column",
        ),
        pytest.param(
            {
                "conversations": [{"from": "system", "value": "mine"}, human("q"), gpt("a")],
                "system": "column",
            },
            talk("q", "a", system="mine"),
            id="sharegpt: a system message counts before the column",
        ),
        pytest.param(
            {
                "conversations": [
                    human("q"),
                    {"from": "function_call", "value": json.dumps(CALL)},
                    {"from": "observation", "value": "1"},
                    gpt("a"),
                ],
                "tools": json.dumps([TOOL]),
            },
            Conversation(
                (
                    Turn("user", "q"),
                    Turn("function", json.dumps(CALL)),
                    Turn("observation", "1"),
                    Turn("assistant", "a"),
                ),
                tools=json.dumps([TOOL]),
            ),
            id="sharegpt with tools",
        ),
        pytest.param(
            {"messages": [say("system", "s"), say("user", "q"), say("assistant", "a")]},
            talk("q", "a", system="s"),
            id="openai with a system message",
        ),
        pytest.param(
            {
                "messages": [
                    say("user", "q"),
                    say(
                        "assistant",
                        None,
                        tool_calls=[{"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}],
                    ),
                    say("tool", "1"),
                    say("tool", "2"),
                    say("assistant", "a"),
                ],
                "tools": [{"type": "function", "function": TOOL}],
            },
            Conversation(
                (
                    Turn("user", "q"),
                    Turn("function", json.dumps([CALL])),
                    Turn("observation", "1\n</tool_response>\n<tool_response>\n2"),
                    Turn("assistant", "a"),
                ),
                tools=json.dumps([{"type": "function", "function": TOOL}]),
            ),
            id="openai with tool calls, their arguments parsed, and results joined",
        ),
        pytest.param(
            {
                "messages": [
                    say("system", [part("s")]),
                    say("user", [part("q"), part("\nmore")]),
                    say("assistant", [part("a")], weight=1),
                ]
            },
            talk("q\nmore", "a", system="s"),
            id="openai with parts of text, which are joined, and a weight that every answer has",
        ),
        pytest.param(
            {
                "messages": [
                    say("user", "q", weight=0),
                    say("assistant", "\n", tool_calls=[{"function": CALL}]),
                ]
            },
            Conversation((Turn("user", "q"), Turn("function", json.dumps([CALL])))),
            id="openai with white space beside a tool call, and a prompt that is not to be learned",
        ),
    ],
)
def test_a_row_of_a_recognised_format_becomes_a_conversation(
    row: dict[str, Any], expected: Conversation
) -> None:
    assert convert(row) == expected


@pytest.mark.parametrize(
    ("row", "columns", "expected"),
    [
        pytest.param(
            {"q": "question", "a": "answer"},
            {"prompt": "q", "response": "a"},
            talk("question", "answer"),
            id="prompt and answer",
        ),
        pytest.param(
            {"q": "question", "a": "answer", "more": "context", "past": [["x", "y"]], "persona": "s"},
            {"prompt": "q", "response": "a", "query": "more", "history": "past", "system": "persona"},
            talk("x", "y", "question\ncontext", "answer", system="s"),
            id="every column of alpaca",
        ),
        pytest.param(
            {"dialogue": [human("q"), gpt("a")]},
            {"messages": "dialogue"},
            talk("q", "a"),
            id="turns of sharegpt",
        ),
        pytest.param(
            {"dialogue": [{"q": "q", "a": "a"}]},
            {"messages": "dialogue", "prompt": "q", "response": "a"},
            talk("q", "a"),
            id="turns of multiTurn",
        ),
    ],
)
def test_columns_that_are_named_are_read(
    row: dict[str, Any], columns: dict[str, str], expected: Conversation
) -> None:
    assert convert(row, **columns) == expected


HISTORY = {"instruction": "q", "output": "a", "prompt": "q", "completion": "a"}


@pytest.mark.parametrize(
    ("name", "row", "columns", "message", "hint"),
    [
        pytest.param(
            "singleTurn",
            ALPACA,
            {},
            "datasets[3].format: declared singleTurn, but x.json:1 has the fields instruction, input, "
            "output: looks like alpaca",
            "Set datasets[3].format to alpaca.",
            id="another format than the declared",
        ),
        pytest.param(
            "multiTurn",
            {"conversation": [human("q")]},
            {"messages": "conversation"},
            "datasets[3].format: declared multiTurn, but x.json:1 has the fields conversation: "
            "[{from, value}]: looks like sharegpt",
            "Set datasets[3].format to sharegpt.",
            id="another kind of turns than the declared",
        ),
        pytest.param(
            "alpaca",
            {"question": "q", "answer": "a"},
            {},
            "datasets[3].format: declared alpaca, but x.json:1 has the fields question, answer: "
            "alpaca needs instruction and output",
            "Set datasets[3].format, or name the columns in its columns.",
            id="other columns than the declared format's",
        ),
        pytest.param(
            "auto",
            HISTORY,
            {},
            "datasets[3].format: auto can't tell the format: x.json:1 has the fields instruction, output, "
            "prompt, completion: could be alpaca or singleTurn",
            "Set datasets[3].format, and name the columns in its columns where they differ.",
            id="a row of two formats",
        ),
        pytest.param(
            "auto",
            {},
            {},
            "datasets[3].format: auto can't tell the format: x.json:1 has no fields: fits no format "
            "(alpaca needs instruction and output; "
            "sharegpt needs conversations, a list of objects with from and value; "
            "openai needs messages, a list of objects with role and content; "
            "singleTurn needs prompt and completion; "
            "multiTurn needs conversation, a list of objects with input and output)",
            "Set datasets[3].format, and name the columns in its columns where they differ.",
            id="an empty row",
        ),
        pytest.param(
            "auto",
            {"id": 1, "conversations": OPENAI["messages"]},
            {},
            "datasets[3].format: auto can't tell the format: x.json:1 has the fields id, conversations: "
            "[{role, content}]: openai lacks its messages",
            "Set `datasets[3].columns.messages: conversations`.",
            id="messages of openai under the name of sharegpt's",
        ),
        pytest.param(
            "auto",
            {"text": "q a", "conversations": OPENAI["messages"]},
            {},
            "datasets[3].format: auto can't tell the format: x.json:1 has the fields text, conversations: "
            "[{role, content}]: openai lacks its messages",
            "Set `datasets[3].columns.messages: conversations`.",
            id="messages beside a column of text",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": OPENAI["messages"]},
            {},
            "datasets[3].format: declared sharegpt, but x.json:1 has the fields conversations: "
            "[{role, content}]: openai lacks its messages",
            "Set `datasets[3].columns.messages: conversations` and `datasets[3].format: openai`.",
            id="messages of openai that are declared sharegpt",
        ),
        pytest.param(
            "openai",
            {"conversations": OPENAI["messages"]},
            {},
            "datasets[3].format: declared openai, but x.json:1 has the fields conversations: "
            "[{role, content}]: openai lacks its messages",
            "Set `datasets[3].columns.messages: conversations`.",
            id="messages of openai that are declared so",
        ),
        pytest.param(
            "auto",
            {"version": 1, "data": [ALPACA, ALPACA]},
            {},
            "datasets[3].format: auto can't tell the format: x.json:1 has the fields version, data: "
            "[{instruction, input, output}]: the rows are in data, within another object",
            "Make the list in data the file itself, or write one row in each line of it.",
            id="rows within an object",
        ),
        pytest.param(
            "auto",
            SHAREGPT,
            {"history": "past"},
            "datasets[3].columns.history: sharegpt has no history; it has messages, system and tools",
            "Remove datasets[3].columns.history, or set another datasets[3].format.",
            id="a name for a column that the recognised format has not",
        ),
        pytest.param(
            "alpaca",
            ALPACA,
            {"messages": "instruction"},
            "datasets[3].columns.messages: alpaca has no messages; it has prompt, query, response, history, "
            "system and tools",
            "Remove datasets[3].columns.messages, or set another datasets[3].format.",
            id="a name for a column that the declared format has not",
        ),
    ],
)
def test_a_format_that_does_not_fit_is_refused_with_the_evidence(
    name: str, row: Any, columns: dict[str, str], message: str, hint: str
) -> None:
    dataset = Dataset.decode({"source": "s3://raw/a", "format": name, "columns": Columns(**columns).encode()})
    with pytest.raises(StageError) as caught:
        find_reader(dataset, 3, [(Place("x.json", 1), row)])
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_bad_first_row_does_not_hide_the_format() -> None:
    rows = [(Place("x", 1), {"instruction": "q"}), (Place("x", 2), ALPACA)]
    reader = find_reader(Dataset(source="s3://raw/a"), 0, rows)
    assert (reader.format, reader.recognised) == ("alpaca", True)


def test_with_prompt_and_answer_named_a_row_is_alpaca() -> None:
    assert recognise({"q": 1, "a": 2}, Columns(prompt="q", response="a")) == ["alpaca"]
