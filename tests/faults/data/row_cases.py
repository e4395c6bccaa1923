"""Files that are whole, with rows that can't be learned from: every fault in every format."""

import json
from collections.abc import Callable
from typing import Any

from faults.data.making import (
    ALPACA,
    AUTO,
    MULTI,
    OPENAI,
    SHAREGPT,
    SINGLE,
    Case,
    bad,
    lines,
    listed,
    of_file,
    one,
)

Row = dict[str, Any]


def said(user: Any, assistant: Any) -> list[Row]:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def calling(function: Row, content: Any) -> list[Row]:
    """A call of a tool in openai's way, with what is said beside it."""
    call = {"role": "assistant", "content": content, "tool_calls": [{"function": function}]}
    return [{"role": "user", "content": "q"}, call]


def shared(*turns: tuple[Any, Any]) -> Row:
    return {"conversations": [{"from": role, "value": value} for role, value in turns]}


def without(row: Row, name: str) -> Row:
    return {key: value for key, value in row.items() if key != name}


SPEAKERS: dict[str, tuple[Row, Callable[[Any], Row], str]] = {
    "alpaca": (ALPACA, lambda text: ALPACA | {"output": text}, "output"),
    "alpaca's history": (ALPACA, lambda text: ALPACA | {"history": [["q", text]]}, r"history\[0\]\[1\]"),
    "singleTurn": (SINGLE, lambda text: SINGLE | {"completion": text}, "completion"),
    "multiTurn": (
        MULTI,
        lambda text: {"conversation": [{"input": "q", "output": text}]},
        r"conversation\[0\]\.output",
    ),
    "sharegpt": (SHAREGPT, lambda text: shared(("human", "q"), ("gpt", text)), r"conversations\[1\]\.value"),
    "openai": (OPENAI, lambda text: {"messages": said("q", text)}, r"messages\[1\]\.content"),
}
"""A good row of each format, one with an answer of choice, and the field that the answer is in."""

ANSWERS: dict[str, tuple[Any, str, str]] = {
    "an answer that is missing": (None, "no answer", "the answer is missing"),
    "an answer that is empty": ("", "empty answer", "the answer is empty"),
    "an answer of characters that no one sees": ("\u200b\ufeff ", "empty answer", "the answer is empty"),
    "an answer of marks that no one sees": ("\ufe0f\U000e0101\u034f", "empty answer", "the answer is empty"),
    "an answer of letters that no one sees": ("\u3164 \u2800", "empty answer", "the answer is empty"),
    "an answer of white space": (" \n\u3000\t", "empty answer", "the answer is empty"),
    "a number for an answer": (1.5, "wrong type", "is a number, not a text"),
    "true for an answer": (True, "wrong type", "is true or false, not a text"),
    "NaN for an answer": (float("nan"), "wrong type", "is NaN, not a text"),
    "a list for an answer": ([], "wrong type", "is a list, not a text"),
    "an object for an answer": ({"text": "a"}, "wrong type", "is an object, not a text"),
    "a zero byte in an answer": ("a\0b", "control character", r"character 1 is U\+0000"),
    "a special token in an answer": (
        "a<|im_end|>\n<|im_start|>system",
        "special token in text",
        r"the text has the special token '<\|im_end\|>'",
    ),
    "a lone surrogate in an answer": ("ok \ud83d", "lone surrogate", "character 3 is a lone surrogate"),
}

IN_EVERY_FORMAT = {
    f"{fault}, in {name}": Case(
        b"".join(json.dumps(row).encode() + b"\n" for row in (good, spoil(value))),
        one(kind, f"{field}: {what}"),
    )
    for name, (good, spoil, field) in SPEAKERS.items()
    for fault, (value, kind, what) in ANSWERS.items()
}

ROWS: dict[str, tuple[Row, Row, str, str]] = {
    "alpaca without a prompt": (
        ALPACA,
        {"output": "a"},
        "missing field",
        "instruction: the prompt is missing",
    ),
    "alpaca with an empty prompt": (
        ALPACA,
        ALPACA | {"instruction": " "},
        "empty prompt",
        "instruction: the prompt is empty",
    ),
    "alpaca without an answer": (
        ALPACA,
        without(ALPACA, "output"),
        "no answer",
        "output: the answer is missing",
    ),
    "alpaca with a list for a prompt": (
        ALPACA,
        ALPACA | {"instruction": ["q"]},
        "wrong type",
        "instruction: is a list, not a text",
    ),
    "alpaca with an object for an input": (
        ALPACA,
        ALPACA | {"input": {}},
        "wrong type",
        "input: is an object, not a text",
    ),
    "alpaca with a text for a history": (
        ALPACA,
        ALPACA | {"history": "q"},
        "wrong type",
        "history: is a text, not a list of pairs",
    ),
    "alpaca with a turn in its history without an answer": (
        ALPACA,
        ALPACA | {"history": [["q"]]},
        "wrong type",
        r"history\[0\]: is not a pair .*",
    ),
    "alpaca with a special token in its system prompt": (
        ALPACA,
        ALPACA | {"system": "<s>"},
        "special token in text",
        "system: the text has the special token '<s>'",
    ),
    "alpaca with a token in brackets": (
        ALPACA,
        ALPACA | {"input": "x[gMASK]"},
        "special token in text",
        r"input: the text has .* '\[gMASK\]'",
    ),
    "alpaca with an escape of the terminal": (
        ALPACA,
        ALPACA | {"output": "\x1b[31m"},
        "control character",
        r"output: character 0 is U\+001B",
    ),
    "alpaca with a control character of Latin-1": (
        ALPACA,
        ALPACA | {"output": "a\x85"},
        "control character",
        r"output: character 1 is U\+0085",
    ),
    "alpaca with a backspace": (
        ALPACA,
        ALPACA | {"output": "a\b"},
        "control character",
        r"output: character 1 is U\+0008",
    ),
    "sharegpt amid alpaca": (ALPACA, SHAREGPT, "missing field", "instruction: the prompt is missing"),
    "openai amid sharegpt": (
        SHAREGPT,
        OPENAI,
        "missing field",
        "conversations: is missing",
    ),
    "singleTurn amid alpaca": (ALPACA, SINGLE, "missing field", "instruction: the prompt is missing"),
    "multiTurn without turns": (MULTI, {"conversation": []}, "no answer", "conversation: has no turns"),
    "multiTurn with a text for turns": (
        MULTI,
        {"conversation": "q"},
        "wrong type",
        "conversation: is a text, not a list of turns",
    ),
    "multiTurn with a text for a turn": (
        MULTI,
        {"conversation": ["q"]},
        "wrong type",
        r"conversation\[0\]: is a text, not an object",
    ),
    "multiTurn with two system prompts": (
        MULTI,
        {"conversation": [{"system": s, "input": "q", "output": "a"} for s in "st"]},
        "roles out of order",
        r"conversation\[1\]\.system: differs from the system prompt of the turns before",
    ),
    "sharegpt without turns": (SHAREGPT, shared(), "no answer", "conversations: has no turns"),
    "sharegpt that ends with a prompt": (
        SHAREGPT,
        shared(("human", "q"), ("gpt", "a"), ("human", "r")),
        "no answer",
        r"conversations\[2\]: the last turn has no answer",
    ),
    "sharegpt that begins with an answer": (
        SHAREGPT,
        shared(("gpt", "a"), ("human", "q")),
        "roles out of order",
        r"conversations\[0\]: a prompt or a tool's result is expected, not assistant",
    ),
    "sharegpt with two answers": (
        SHAREGPT,
        shared(("human", "q"), ("gpt", "a"), ("gpt", "b"), ("human", "r")),
        "roles out of order",
        r"conversations\[2\]: a prompt or a tool's result is expected, not assistant",
    ),
    "sharegpt with a late system prompt": (
        SHAREGPT,
        shared(("human", "q"), ("gpt", "a"), ("system", "s")),
        "roles out of order",
        r"conversations\[2\]\.from: a system message may only come first",
    ),
    "sharegpt with a role that nobody knows": (
        SHAREGPT,
        shared(("human", "q"), ("GPT", "a")),
        "roles out of order",
        r"conversations\[1\]\.from: the role is 'GPT'.*",
    ),
    "sharegpt with a number for a role": (
        SHAREGPT,
        shared((1, "q"), ("gpt", "a")),
        "roles out of order",
        r"conversations\[0\]\.from: the role is a number.*",
    ),
    "sharegpt with a call of a tool that is no JSON": (
        SHAREGPT,
        shared(("human", "q"), ("function_call", "f(1)")),
        "unusable tools",
        r"conversations\[1\]\.value: is not JSON",
    ),
    "sharegpt with a bomb for tools": (
        SHAREGPT,
        SHAREGPT | {"tools": "[" * 50_000},
        "unusable tools",
        "tools: is not JSON",
    ),
    "sharegpt with an object for tools": (
        SHAREGPT,
        SHAREGPT | {"tools": "{}"},
        "unusable tools",
        "tools: is an object, not a list of tools",
    ),
    "openai with a picture": (
        OPENAI,
        {"messages": said([{"type": "image_url", "image_url": "file:///etc/passwd"}], "a")},
        "wrong type",
        r"messages\[0\]\.content\[0\]: only text parts can be learned, .*",
    ),
    "openai with a text beside a call": (
        OPENAI,
        {"messages": calling({"name": "f", "arguments": "{}"}, "Let me see.")},
        "unusable tools",
        r"messages\[1\]\.content: a text beside tool_calls can't be learned: .*",
    ),
    "openai with arguments that are no JSON": (
        OPENAI,
        {"messages": calling({"name": "f", "arguments": "{x"}, None)},
        "unusable tools",
        r"messages\[1\]\.tool_calls\[0\]\.function\.arguments: is not JSON",
    ),
    "openai with an answer that is not to be learned": (
        OPENAI,
        {"messages": [OPENAI["messages"][0], OPENAI["messages"][1] | {"weight": 0}]},
        "weighted message",
        r"messages\[1\]\.weight: weights of messages are not supported: .*",
    ),
    "openai with an object for messages": (
        OPENAI,
        {"messages": {}},
        "wrong type",
        "messages: is an object, not a list of messages",
    ),
    "openai with a role of sharegpt": (
        OPENAI,
        {"messages": [{"role": "human", "content": "q"}, {"role": "gpt", "content": "a"}]},
        "roles out of order",
        r"messages\[0\]\.role: the role is 'human', not one of system, user, assistant, tool",
    ),
    "openai with a call without a function": (
        OPENAI,
        {"messages": [said("q", "a")[0], {"role": "assistant", "tool_calls": [{}]}]},
        "unusable tools",
        r"messages\[1\]\.tool_calls\[0\]: a tool call needs a function",
    ),
    "openai with a tool's result and no answer": (
        OPENAI,
        {"messages": [*said("q", "a"), {"role": "tool", "content": "1"}]},
        "no answer",
        r"messages\[2\]: the last turn has no answer",
    ),
}

ONE_BAD_ROW = {
    sentence: Case(lines(good, spoiled), one(kind, what))
    for sentence, (good, spoiled, kind, what) in ROWS.items()
}

UNRECOGNISED = {
    "other names of columns": Case(
        lines({"question": "q", "answer": "a"}),
        AUTO + r"rows\.jsonl:1 has the fields question, answer: fits no format .*",
    ),
    "names in capitals": Case(lines({"Instruction": "q", "Output": "a"}), AUTO + ".*fits no format.*"),
    "names with a space": Case(lines({"instruction ": "q", "output": "a"}), AUTO + ".*fits no format.*"),
    "a row of two formats": Case(lines(ALPACA | SINGLE), AUTO + ".*: could be alpaca or singleTurn"),
    "sharegpt of other keys": Case(
        lines({"conversations": [{"role": "user", "text": "q"}]}), AUTO + ".*fits no format.*"
    ),
    "a thousand fields": Case(
        lines({f"field {number}": 1 for number in range(1000)}), AUTO + r".* field 11, …: fits no format.*"
    ),
    "a field that a terminal would obey": Case(
        lines({"\x1b[2J": 1}), AUTO + r".* the fields '\\x1b\[2J': fits no format.*"
    ),
    "preference pairs": Case(
        lines({"prompt": "q", "chosen": "a", "rejected": "b"}),
        r"datasets\[0\]\.format: .*: that is preference, for training\.objective: dpo",
    ),
    "plain text": Case(
        lines({"text": "once upon a time"}),
        r"datasets\[0\]\.format: .*: that is text, for training\.objective: pt",
    ),
    "another format than declared": Case(
        listed(ALPACA),
        r"datasets\[0\]\.format: declared sharegpt, but .*: looks like alpaca",
        fields={"format": "sharegpt"},
    ),
    "a column that is not there": Case(
        listed(ALPACA),
        r"datasets\[0\]\.format: declared alpaca, but .*: alpaca needs q and r",
        fields={"format": "alpaca", "columns": {"prompt": "q", "response": "r"}},
    ),
    "a slip in the name of a column": Case(
        lines(ALPACA, ALPACA | {"context": "c"}),
        r"datasets\[0\]\.columns\.query: no row of rows\.jsonl has a field contxt .*",
        fields={"columns": {"query": "contxt"}},
    ),
    "a column that the format has not": Case(
        lines(SHAREGPT),
        r"datasets\[0\]\.columns\.history: sharegpt has no history; it has messages, system and tools",
        fields={"columns": {"history": "past"}},
    ),
    "rows within an object": Case(
        lines({"data": [ALPACA]}), AUTO + ".*: the rows are in data, within another object"
    ),
    "messages under another name": Case(
        lines({"conversations": OPENAI["messages"]}),
        AUTO + r".* conversations: \[{role, content}\]: openai lacks its messages",
    ),
}

SKIPPED = {
    "more bad rows than may be skipped": Case(
        lines(ALPACA, *[ALPACA | {"output": ""}] * 3),
        r"datasets\[0\]: 3 of 4 rows can't be learned from, more than datasets\[0\]\.maxBadFraction 0\.5 .*",
        fields={"onBadRow": "skip", "maxBadFraction": "0.5"},
    ),
    "nothing but bad rows to skip": Case(
        lines(*[ALPACA | {"output": ""}] * 3),
        r"datasets\[0\]: 3 of 3 rows can't be learned from, so none is left .*",
        fields={"onBadRow": "skip"},
    ),
    "a list that is cut, with bad rows skipped": Case(
        listed(ALPACA)[:-3], of_file(r"rows\.jsonl:1:\d+ .*"), fields={"onBadRow": "skip"}
    ),
    "answers that are cleaned away": Case(
        lines(ALPACA, ALPACA | {"output": "🐳"}),
        one("empty answer", "answer 1: nothing is left after cleaning"),
        fields={"clean": {"remove": ["🐳"]}},
    ),
    "a special token that cleaning makes": Case(
        lines(ALPACA, ALPACA | {"output": "<|im_🐳end|>"}),
        one("special token in text", r"answer 1: the text has the special token '<\|im_end\|>'"),
        fields={"clean": {"remove": ["🐳"]}},
    ),
    "a pattern that is none": Case(
        lines(ALPACA),
        r"datasets\[0\]\.clean\.replace\[0\]\.pattern: is no regular expression of RE2: missing \): \(",
        fields={"clean": {"replace": [{"pattern": "("}]}},
    ),
    "a special token in the dataset's own system prompt": Case(
        lines(ALPACA),
        r"datasets\[0\]\.system: the text has the special token '<\|user\|>'",
        fields={"system": "<|user|>"},
    ),
    "bad rows of several kinds": Case(
        lines(ALPACA | {"output": ""}, ALPACA, ALPACA | {"output": 1}, ALPACA | {"instruction": ""}),
        r"datasets\[0\]: 3 of 4 rows can't be learned from \(1 empty answer, 1 wrong type, 1 empty prompt\)\n"
        r"  rows\.jsonl:1: .*\n  rows\.jsonl:3: .*\n  rows\.jsonl:4: .*",
    ),
    "a thousand bad rows": Case(
        lines(ALPACA, *[ALPACA | {"output": ""}] * 1000),
        bad(1000, 1001, "empty answer", r"rows\.jsonl:2", ".*") + r"(\n  rows[^\n]*){19}\n  and 980 more",
    ),
    "a bad row of a list": Case(
        listed(ALPACA, ALPACA, ALPACA | {"output": ""}),
        bad(1, 3, "empty answer", r"rows\.json\[2\] \(line 3\)", "output: the answer is empty"),
        "rows.json",
    ),
}

ROW_CASES = IN_EVERY_FORMAT | ONE_BAD_ROW | UNRECOGNISED | SKIPPED
