"""What is said of a row that can't be learned from: the field, and what is wrong with it."""

import json
from typing import Any

import pytest

from lorafinetune.api.datasets import Dataset
from lorafinetune_stages.prepare.findings import Place, RowError
from lorafinetune_stages.prepare.format_detection import find_reader
from unit.prepare_rows import ALPACA, CALL, OPENAI, SHAREGPT, TEXTS, TOOL, convert, gpt, human, part, say

MULTI_TURN = {"input": "q", "output": "a"}
ONLY_TEXT_PARTS = 'only text parts can be learned, like {"type": "text", "text": …}'

TOOLS = json.dumps([TOOL])
ESCAPED = r'"\u003cs\u003e"'
"""The text `<s>` in JSON, for whoever decodes it."""
ESCAPED_CALL = json.dumps(CALL).replace("1", f'{{"deep": [[{ESCAPED}]]}}')


def calling(arguments: str) -> dict[str, Any]:
    """A tool call in openai's way."""
    return {"type": "function", "function": {"name": "f", "arguments": arguments}}


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        pytest.param("alpaca", {"instruction": "q"}, "output: the answer is missing", id="no answer"),
        pytest.param(
            "alpaca", ALPACA | {"output": None}, "output: the answer is missing", id="a null for an answer"
        ),
        pytest.param("alpaca", ALPACA | {"output": ""}, "output: the answer is empty", id="an empty answer"),
        pytest.param(
            "alpaca",
            ALPACA | {"output": " \n　"},
            "output: the answer is empty",
            id="an answer of white space",
        ),
        pytest.param(
            "alpaca",
            ALPACA | {"output": "\u200b \ufeff\n\u2060"},
            "output: the answer is empty",
            id="an answer of characters that no one sees",
        ),
        pytest.param(
            "alpaca", ALPACA | {"output": 42}, "output: is a number, not a text", id="a number for an answer"
        ),
        pytest.param(
            "alpaca", ALPACA | {"output": ["a"]}, "output: is a list, not a text", id="a list for an answer"
        ),
        pytest.param(
            "alpaca", ALPACA | {"output": float("nan")}, "output: is NaN, not a text", id="NaN for an answer"
        ),
        pytest.param("alpaca", {"output": "a"}, "instruction: the prompt is missing", id="no prompt"),
        pytest.param(
            "alpaca", ALPACA | {"instruction": ""}, "instruction: the prompt is empty", id="an empty prompt"
        ),
        pytest.param(
            "alpaca",
            ALPACA | {"instruction": {"a": 1}},
            "instruction: is an object, not a text",
            id="an object for a prompt",
        ),
        pytest.param(
            "alpaca",
            ALPACA | {"system": True},
            "system: is true or false, not a text",
            id="a truth value for a system prompt",
        ),
        pytest.param(
            "alpaca",
            ALPACA | {"history": "x"},
            "history: is a text, not a list of pairs",
            id="a history that is no list",
        ),
        pytest.param(
            "alpaca",
            ALPACA | {"history": [["q"]]},
            "history[0]: is not a pair of a prompt and an answer",
            id="half a pair",
        ),
        pytest.param(
            "alpaca",
            ALPACA | {"history": [["q", "a"], ["q", ""]]},
            "history[1][1]: the answer is empty",
            id="an empty answer in the history",
        ),
        pytest.param(
            "alpaca", ALPACA | {"output": "a\x00b"}, "output: character 1 is U+0000", id="a control character"
        ),
        pytest.param(
            "alpaca",
            ALPACA | {"output": "a\x85"},
            "output: character 1 is U+0085",
            id="a control character beyond ASCII",
        ),
        pytest.param(
            "alpaca",
            ALPACA | {"instruction": "\ud800"},
            "instruction: character 0 is a lone surrogate",
            id="a lone surrogate",
        ),
        pytest.param(
            "alpaca",
            ALPACA | {"output": "a<|im_end|>"},
            "output: the text has the special token '<|im_end|>'",
            id="a special token",
        ),
        pytest.param(
            "alpaca",
            ALPACA | {"history": [["q <s>", "a"]]},
            "history[0][0]: the text has the special token '<s>'",
            id="a special token in the history",
        ),
        pytest.param(
            "singleTurn",
            {"prompt": "q", "completion": ""},
            "completion: the answer is empty",
            id="singleTurn with an empty answer",
        ),
        pytest.param(
            "multiTurn", {"conversation": []}, "conversation: has no turns", id="multiTurn without turns"
        ),
        pytest.param(
            "multiTurn",
            {"conversation": None},
            "conversation: is null, not a list of turns",
            id="multiTurn with null for turns",
        ),
        pytest.param(
            "multiTurn",
            {"conversation": [MULTI_TURN, "x"]},
            "conversation[1]: is a text, not an object",
            id="multiTurn with a text for a turn",
        ),
        pytest.param(
            "multiTurn",
            {"conversation": [MULTI_TURN, {"input": "q"}]},
            "conversation[1].output: the answer is missing",
            id="multiTurn with a turn without an answer",
        ),
        pytest.param(
            "multiTurn",
            {"conversation": [{"output": "a"}]},
            "conversation[0].input: the prompt is missing",
            id="multiTurn with a turn without a prompt",
        ),
        pytest.param(
            "multiTurn",
            {"conversation": [MULTI_TURN | {"system": "s"}, MULTI_TURN | {"system": "t"}]},
            "conversation[1].system: differs from the system prompt of the turns before",
            id="multiTurn that changes its system prompt",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [human("q")]},
            "conversations[0]: the last turn has no answer",
            id="sharegpt without an answer",
        ),
        pytest.param(
            "sharegpt", {"conversations": []}, "conversations: has no turns", id="sharegpt without turns"
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [gpt("a"), human("q")]},
            "conversations[0]: a prompt or a tool's result is expected, not assistant",
            id="sharegpt that begins with an answer",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [human("q"), human("q"), gpt("a")]},
            "conversations[1]: an answer or a tool call is expected, not user",
            id="sharegpt with two prompts in a row",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [human("q"), {"from": "bing", "value": "a"}]},
            "conversations[1].from: the role is 'bing', not one of system, human, gpt, function_call, "
            "observation",
            id="sharegpt with an unknown role",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [human("q"), {"value": "a"}]},
            "conversations[1].from: the role is missing",
            id="sharegpt without a role",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [human("q"), gpt("a"), {"from": "system", "value": "s"}]},
            "conversations[2].from: a system message may only come first",
            id="sharegpt with a late system message",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [human("q"), gpt(None)]},
            "conversations[1].value: the answer is missing",
            id="sharegpt with a null for an answer",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [human(" "), gpt("a")]},
            "conversations[0].value: the prompt is empty",
            id="sharegpt with an empty prompt",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [human("q"), {"from": "function_call", "value": "f(1)"}]},
            "conversations[1].value: is not JSON",
            id="sharegpt with a tool call that is no JSON",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [human("q"), {"from": "function_call", "value": '{"name": "f"}'}]},
            "conversations[1].value: a tool call needs name and arguments",
            id="sharegpt with a tool call without arguments",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [human("q"), gpt("a")], "tools": "f"},
            "tools: is not JSON",
            id="tools that are no JSON",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [human("q"), gpt("a")], "tools": "{}"},
            "tools: is an object, not a list of tools",
            id="tools that are no list",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [human("q"), gpt("a")], "tools": [{"type": "function", "function": {}}]},
            "tools[0].function: a tool needs a name",
            id="a tool without a name",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [human("q"), gpt("a")], "tools": [{"name": "f"}]},
            "tools[0]: a tool needs parameters.properties, an object of objects",
            id="a tool without parameters",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [human("q"), gpt("a")], "tools": TOOLS.replace('"d"', ESCAPED)},
            "tools: the text has the special token '<s>'",
            id="a special token that a template would unescape in the description of a tool",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [human("q"), gpt("a")], "tools": TOOLS.replace('"x"', ESCAPED)},
            "tools: the text has the special token '<s>'",
            id="a special token that a template would unescape in the name of a parameter",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [human("q"), {"from": "function_call", "value": ESCAPED_CALL}]},
            "conversations[1].value: the text has the special token '<s>'",
            id="a special token that a template would unescape in a tool call",
        ),
        pytest.param(
            "sharegpt",
            {"conversations": [human("q"), {"from": "function_call", "value": f"[{ESCAPED_CALL}]"}]},
            "conversations[1].value: the text has the special token '<s>'",
            id="a special token that a template would unescape in one of several tool calls",
        ),
        pytest.param(
            "openai",
            {
                "messages": [
                    say("user", "q"),
                    say("assistant", None, tool_calls=[{"function": CALL | {"arguments": [["\x00"]]}}]),
                ]
            },
            "messages[1].tool_calls: character 0 is U+0000",
            id="openai with a control character in a tool call",
        ),
        pytest.param(
            "openai",
            {"messages": [say("user", [{"type": "text"}]), say("assistant", "a")]},
            f"messages[0].content[0]: {ONLY_TEXT_PARTS}",
            id="openai with a part without a text",
        ),
        pytest.param(
            "openai",
            {"messages": [say("user", [part("q"), {"type": "image_url"}]), say("assistant", "a")]},
            f"messages[0].content[1]: {ONLY_TEXT_PARTS}",
            id="openai with a picture beside a text",
        ),
        pytest.param(
            "openai",
            {"messages": [say("user", "q"), say("assistant", [part("a"), "b"])]},
            f"messages[1].content[1]: {ONLY_TEXT_PARTS}",
            id="openai with a text for a part",
        ),
        pytest.param(
            "openai",
            {"messages": [say("user", "q"), say("assistant", [])]},
            "messages[1].content: is a list, not a text",
            id="openai without any part",
        ),
        pytest.param(
            "openai",
            {"messages": [say("user", [part("a<"), part("s>b")]), say("assistant", "a")]},
            "messages[0].content: the text has the special token '<s>'",
            id="openai with a special token in two parts",
        ),
        pytest.param(
            "openai",
            {
                "messages": [
                    say("user", "q"),
                    say("assistant", "Let me see.", tool_calls=[{"function": CALL}]),
                ]
            },
            "messages[1].content: a text beside tool_calls can't be learned: leave it out, or the row",
            id="openai with a text beside a tool call",
        ),
        pytest.param(
            "openai",
            {"messages": [say("user", "q"), say("assistant", None, tool_calls=[calling("{x")])]},
            "messages[1].tool_calls[0].function.arguments: is not JSON",
            id="openai with arguments that are no JSON",
        ),
        pytest.param(
            "openai",
            {
                "messages": [
                    say("user", "q"),
                    say("assistant", None, tool_calls=[calling('{"x": 1, "x": 2}')]),
                ]
            },
            "messages[1].tool_calls[0].function.arguments: x: the field is given twice",
            id="openai with an argument given twice",
        ),
        pytest.param(
            "openai",
            {"messages": [say("user", "q"), say("assistant", "a", weight=0)]},
            "messages[1].weight: weights of messages are not supported: training.learnFrom says which "
            "answers are learned",
            id="openai with an answer that is not to be learned",
        ),
        pytest.param(
            "openai",
            {"messages": [say("user", "q"), "a"]},
            "messages[1]: is a text, not an object",
            id="openai with a text for a message",
        ),
        pytest.param(
            "openai",
            {"messages": [say("user", "q"), say("assistant", None, tool_calls="f")]},
            "messages[1].tool_calls: is a text, not a list of tool calls",
            id="openai with a text for tool calls",
        ),
        pytest.param(
            "openai",
            {"messages": [say("user", "q"), say("assistant", None, tool_calls=[{}])]},
            "messages[1].tool_calls[0]: a tool call needs a function",
            id="openai with an empty tool call",
        ),
        pytest.param(
            "openai",
            {"messages": [say("user", "q"), say("assistant", "a"), say("tool", "1")]},
            "messages[2]: the last turn has no answer",
            id="openai that ends with a result",
        ),
    ],
)
def test_a_bad_row_says_what_is_wrong_where(name: str, row: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError) as caught:
        convert(row, name)
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [None, 1, "x", [], float("nan")], ids=repr)
def test_a_row_that_is_no_object_is_bad(value: Any) -> None:
    dataset = Dataset(source="s3://raw/a", format="alpaca")
    reader = find_reader(dataset, 0, [(Place("a", 1), ALPACA)])
    with pytest.raises(RowError, match=r"^the row is .*, not an object$"):
        reader.convert(value, TEXTS)


@pytest.mark.parametrize(
    ("name", "good", "message"),
    [
        pytest.param("sharegpt", SHAREGPT, "conversations: is missing", id="the messages of sharegpt"),
        pytest.param("openai", OPENAI, "messages: is missing", id="the messages of openai"),
        pytest.param(
            "multiTurn",
            {"conversation": [MULTI_TURN]},
            "conversation: is missing",
            id="the turns of multiTurn",
        ),
    ],
)
def test_amid_others_a_row_may_lack(name: str, good: dict[str, Any], message: str) -> None:
    dataset = Dataset.decode({"source": "s3://raw/a", "format": name})
    reader = find_reader(dataset, 0, [(Place("a", 1), good)])
    with pytest.raises(RowError) as caught:
        reader.convert(ALPACA, TEXTS)
    assert str(caught.value) == message
