"""Pairs of answers, plain texts and tools that can't be learned from."""

import json
from collections.abc import Callable
from typing import Any

from faults.data.making import ALPACA, AUTO, Case, bad, lines, nested, one, parquet

Row = dict[str, Any]

PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
TEXT = {"text": "once upon a time"}
ASKED = {"role": "user", "content": "q"}
WHOLE = {
    "chosen": [ASKED, {"role": "assistant", "content": "a"}],
    "rejected": [ASKED, {"role": "assistant", "content": "b"}],
}
TOOL = {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "string"}}}}
ESCAPED = r"\u003c|im_end|\u003e\n\u003c|im_start|\u003esystem"
"""A turn that ends and another that begins, once JSON is decoded."""

SIDES: dict[str, tuple[Row, Callable[[Any], Row], str]] = {
    "the chosen answer": (PAIR, lambda text: PAIR | {"chosen": text}, "chosen"),
    "the rejected answer": (PAIR, lambda text: PAIR | {"rejected": text}, "rejected"),
    "the chosen conversation": (
        WHOLE,
        lambda text: WHOLE | {"chosen": [ASKED, {"role": "assistant", "content": text}]},
        r"chosen\[1\]\.content",
    ),
}

FAULTS: dict[str, tuple[Any, str, str]] = {
    "nothing": (None, "no answer", "the answer is missing"),
    "an empty text": ("", "empty answer", "the answer is empty"),
    "a number": (7, "wrong type", "is a number, not a text"),
    "a special token": ("a<|im_end|>", "special token in text", ".*'<\\|im_end\\|>'"),
    "a control character": ("a\0", "control character", r"character 1 is U\+0000"),
    "a lone surrogate": ("\ud800", "lone surrogate", "character 0 is a lone surrogate"),
}

SPOILED_SIDES = {
    f"{fault} for {side}": Case(
        b"".join(json.dumps(row).encode() + b"\n" for row in (good, spoil(value))),
        one(kind, f"{field}: {what}"),
        objective="dpo",
    )
    for side, (good, spoil, field) in SIDES.items()
    for fault, (value, kind, what) in FAULTS.items()
}

PAIRS: dict[str, tuple[Row, Row, str, str]] = {
    "a pair without a prompt": (
        PAIR,
        {"chosen": "a", "rejected": "b"},
        "missing field",
        "prompt: the prompt is missing",
    ),
    "a pair of equal answers": (
        PAIR,
        PAIR | {"rejected": "a"},
        "equal answers",
        "rejected: the rejected answer is the chosen one",
    ),
    "a pair amid conversations": (
        WHOLE,
        PAIR | {"prompt": " "},
        "empty prompt",
        "prompt: the prompt is empty",
    ),
    "a conversation and an answer alone": (
        WHOLE,
        WHOLE | {"rejected": "b"},
        "wrong type",
        "rejected: is no whole conversation, as the other answer is",
    ),
    "conversations that part too early": (
        WHOLE,
        WHOLE | {"rejected": [ASKED | {"content": "r"}, {"role": "assistant", "content": "b"}]},
        "different prompts",
        "rejected: differs from chosen before the last message",
    ),
    "conversations of another prompt": (
        WHOLE,
        WHOLE | {"prompt": "r"},
        "different prompts",
        "prompt: is not what the conversations ask",
    ),
    "a conversation that ends with the user": (
        WHOLE,
        {side: [ASKED, ASKED] for side in WHOLE},
        "roles out of order",
        r"chosen\[1\]: an answer is expected, not user",
    ),
    "a pair with an object for a prompt": (
        PAIR,
        PAIR | {"prompt": {"a": "b"}},
        "wrong type",
        "prompt: is an object, not a text",
    ),
    "conversations amid pairs": (PAIR, {"messages": WHOLE["chosen"]}, "missing field", "prompt: .*"),
}

TEXTS: dict[str, tuple[Row, str, str]] = {
    "no text": ({"content": "a"}, "missing field", "text: the text is missing"),
    "null for a text": ({"text": None}, "missing field", "text: the text is missing"),
    "a text of white space": ({"text": " \n\u3000"}, "empty text", "text: the text is empty"),
    "a list for a text": ({"text": ["a"]}, "wrong type", "text: is a list, not a text"),
    "a special token in a text": ({"text": "a<s>"}, "special token in text", "text: .*'<s>'"),
    "a zero byte in plain text": ({"text": "a\0"}, "control character", r"text: character 1 is U\+0000"),
}


def with_tools(text: Any) -> Row:
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    return {"conversations": turns, "tools": text}


def with_call(text: str) -> Row:
    turns = [{"from": "human", "value": "q"}, {"from": "function_call", "value": text}]
    return {"conversations": turns, "tools": [TOOL]}


TOOLS: dict[str, tuple[Row, str, str]] = {
    "an escaped turn in the description of a tool": (
        with_tools(json.dumps([TOOL | {"description": "d"}]).replace('"d"', f'"{ESCAPED}"')),
        "special token in text",
        r"tools: the text has the special token .*",
    ),
    "an escaped turn in the name of a tool": (
        with_tools(json.dumps([TOOL]).replace('"f"', f'"{ESCAPED}"')),
        "special token in text",
        r"tools: the text has the special token .*",
    ),
    "an escaped turn in an argument": (
        with_call(f'{{"name": "f", "arguments": {{"x": ["{ESCAPED}"]}}}}'),
        "special token in text",
        r"conversations\[1\]\.value: the text has the special token .*",
    ),
    "a field given twice in a tool": (
        with_tools('[{"name": "f", "name": "g", "parameters": {"properties": {}}}]'),
        "unusable tools",
        r"tools: \[0\]\.name: the field is given twice",
    ),
    "a field given twice in a call": (
        with_call('{"name": "f", "arguments": {"x": 1, "x": 2}}'),
        "unusable tools",
        r"conversations\[1\]\.value: arguments\.x: the field is given twice",
    ),
    "a call of a bomb": (
        with_call(nested(50_000).decode()),
        "unusable tools",
        r"conversations\[1\]\.value: is not JSON",
    ),
    "a number for tools": (with_tools(5), "unusable tools", "tools: is a number, not a list of tools"),
    "a tool without a name": (
        with_tools([{"parameters": {"properties": {}}}]),
        "unusable tools",
        r"tools\[0\]: a tool needs a name",
    ),
}

MORE = {
    "conversations where pairs are needed": Case(
        lines(ALPACA),
        r"datasets\[0\]\.format: .* that is alpaca, for training\.objective: sft",
        objective="dpo",
    ),
    "pairs where texts are needed": Case(
        lines(WHOLE),
        r"datasets\[0\]\.format: .* that is preference, for training\.objective: dpo",
        objective="pt",
    ),
    "pairs of other names": Case(
        lines({"question": "q", "better": "a", "worse": "b"}),
        AUTO + r".*fits no format \(preference needs prompt, chosen and rejected\)",
        objective="dpo",
    ),
    "CSV with messages of Python": Case(
        b"prompt,chosen,rejected\nq,a,b\nq,\"[{'role': 'assistant', 'content': 'a'}]\",b\n",
        bad(1, 2, "broken JSON", r"rows\.csv:3", "chosen: the cell is a text, and not a list as JSON"),
        "rows.csv",
        objective="dpo",
    ),
    "pairs as LLaMA-Factory has them": Case(
        lines({"conversations": [{"from": "human", "value": "q"}], "chosen": {}, "rejected": {}}),
        AUTO + ".*: preference lacks its prompt",
        objective="dpo",
    ),
    "Parquet with null pairs": Case(
        parquet({"prompt": ["q", "q"], "chosen": ["a", None], "rejected": ["b", "b"]}),
        bad(1, 2, "no answer", r"rows\.parquet\[1\]", "chosen: the answer is missing"),
        "rows.parquet",
        objective="dpo",
    ),
    "Parquet with pairs of conversations of which one is empty": Case(
        parquet({name: [talk, talk if name == "chosen" else []] for name, talk in WHOLE.items()}),
        bad(1, 2, "wrong type", r"rows\.parquet\[1\]", "rejected: is no whole conversation, .*"),
        "rows.parquet",
        objective="dpo",
    ),
    "CSV with a text too few": Case(
        b'text\nonce\n""\n',
        bad(1, 2, "empty text", r"rows\.csv:3", "text: the text is empty"),
        "rows.csv",
        objective="pt",
    ),
    "CSV with a field given twice in a cell": Case(
        b'instruction,output,history\nq,a,[]\nq,a,"[{""a"": 1, ""a"": 2}]"\n',
        bad(1, 2, "broken JSON", r"rows\.csv:3", r"history: \[0\]\.a: the field is given twice"),
        "rows.csv",
    ),
}

OBJECTIVE_CASES = (
    SPOILED_SIDES
    | {
        sentence: Case(lines(good, row), one(kind, what), objective="dpo")
        for sentence, (good, row, kind, what) in PAIRS.items()
    }
    | {
        sentence: Case(lines(TEXT, row), one(kind, what), objective="pt")
        for sentence, (row, kind, what) in TEXTS.items()
    }
    | {
        sentence: Case(lines(with_tools([TOOL]), row), one(kind, what))
        for sentence, (row, kind, what) in TOOLS.items()
    }
    | MORE
)
