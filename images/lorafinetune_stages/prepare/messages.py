"""Formats whose turns are a list of messages with roles: sharegpt and openai."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lorafinetune.api.datasets import Columns
from lorafinetune_stages.prepare.conversation import Conversation, Role, Turn
from lorafinetune_stages.prepare.findings import Kind, RowError
from lorafinetune_stages.prepare.texts import Texts, require_list, type_name
from lorafinetune_stages.prepare.tools import parsed, tool_call, tool_list

SHAREGPT_ROLES: Final[dict[str, Role]] = {
    "human": "user",
    "gpt": "assistant",
    "function_call": "function",
    "observation": "observation",
}
OPENAI_ROLES: Final[dict[str, Role]] = {"user": "user", "assistant": "assistant", "tool": "observation"}
ASKING: Final[tuple[Role, ...]] = ("user", "observation")
TOOL_RESULTS_JOIN: Final = "\n</tool_response>\n<tool_response>\n"
"""Between the results of tools that were called at once, as LLaMA-Factory joins them."""

Row = Mapping[str, Any]
Message = tuple[str, Row]
"""Where a message is, like `messages[2]`, and the message."""


def sharegpt(row: Row, columns: Columns, texts: Texts) -> Conversation:
    """A sharegpt row: `{"from": human | gpt | system | function_call | observation, "value": …}`."""
    system, rest = _split_system(row, columns, texts, "from", "value")
    turns = [(at, _sharegpt_turn(at, message, texts)) for at, message in rest]
    return Conversation(_in_order(turns, columns), system, tool_list(row, columns.tools, texts))


def openai(row: Row, columns: Columns, texts: Texts) -> Conversation:
    """An openai row: `{"role": user | assistant | system | tool, "content": …, "tool_calls"?: …}`."""
    system, rest = _split_system(row, columns, texts, "role", "content")
    for at, message in rest:
        _check_weight(message, at)
    turns = list(_join_tool_results((at, _openai_turn(at, message, texts)) for at, message in rest))
    return Conversation(_in_order(turns, columns), system, tool_list(row, columns.tools, texts))


def read_prompt(row: Row, columns: Columns, texts: Texts) -> Conversation:
    """A prompt of several turns, by whichever of the two its first message is; the last of them asks."""
    found = _messages(row, columns.messages or "")
    names = ("from", "value") if found and "from" in found[0][1] else ("role", "content")
    make = _sharegpt_turn if names[0] == "from" else _openai_turn
    system, rest = _split_system(row, columns, texts, *names)
    turns = list(_join_tool_results((at, make(at, message, texts)) for at, message in rest))
    _check_order(turns, columns)
    if len(turns) % 2 == 0:
        raise RowError(Kind.ROLES, turns[-1][0], "the last turn of a prompt must ask")
    return Conversation(tuple(turn for _, turn in turns), system, tool_list(row, columns.tools, texts))


def answer(message: Row, field: str, texts: Texts) -> str:
    """What an answer says that is given as a message."""
    turn = (_sharegpt_turn if "from" in message else _openai_turn)(field, message, texts)
    if turn.role != "assistant":
        raise RowError(Kind.ROLES, field, f"an answer is expected, not {turn.role}")
    return turn.content


def _split_system(
    row: Row, columns: Columns, texts: Texts, role: str, content: str
) -> tuple[str, Sequence[Message]]:
    """The system prompt, from the first message or from its own column, and the other messages."""
    found = _messages(row, columns.messages or "")
    if found and found[0][1].get(role) == "system":
        at, first = found[0]
        field = f"{at}.{content}"
        return texts.text(_joined_parts(first.get(content), field), field), found[1:]
    own = row.get(columns.system) if columns.system else None
    return texts.text(own, columns.system or ""), found


def _messages(row: Row, field: str) -> Sequence[Message]:
    items = require_list(row, field, "messages")
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise RowError(Kind.WRONG_TYPE, f"{field}[{index}]", f"is {type_name(item)}, not an object")
    return [(f"{field}[{index}]", item) for index, item in enumerate(items)]


def _sharegpt_turn(at: str, message: Row, texts: Texts) -> Turn:
    role = _role(message, "from", at, SHAREGPT_ROLES)
    return Turn(role, _content(role, message.get("value"), f"{at}.value", texts))


def _openai_turn(at: str, message: Row, texts: Texts) -> Turn:
    role = _role(message, "role", at, OPENAI_ROLES)
    content = _joined_parts(message.get("content"), f"{at}.content")
    if role == "assistant" and message.get("tool_calls"):
        return _calling_turn(at, message, content, texts)
    return Turn(role, _content(role, content, f"{at}.content", texts))


def _calling_turn(at: str, message: Row, content: Any, texts: Texts) -> Turn:
    """A turn that calls tools: LLaMA-Factory's templates have no place for a text beside the calls."""
    if texts.text(content, f"{at}.content").strip():
        what = "a text beside tool_calls can't be learned: leave it out, or the row"
        raise RowError(Kind.TOOLS, f"{at}.content", what)
    field = f"{at}.tool_calls"
    return Turn("function", _content("function", _tool_calls(message["tool_calls"], field), field, texts))


def _joined_parts(content: Any, field: str) -> Any:
    """Parts of text as one text, joined as LLaMA-Factory's own server joins them. Other content as it is."""
    if not isinstance(content, list) or not content:
        return content
    for index, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            what = 'only text parts can be learned, like {"type": "text", "text": …}'
            raise RowError(Kind.WRONG_TYPE, f"{field}[{index}]", what)
    return "".join(part["text"] for part in content)


def _check_weight(message: Row, at: str) -> None:
    """Raises RowError for an answer that is not to be learned as much as others are: each is."""
    if message.get("role") == "assistant" and message.get("weight") not in (None, 1):
        what = "weights of messages are not supported: training.learnFrom says which answers are learned"
        raise RowError(Kind.WEIGHT, f"{at}.weight", what)


def _tool_calls(calls: Any, field: str) -> str:
    """The calls as LLaMA-Factory keeps them; arguments, which are JSON in a text, become JSON."""
    if not isinstance(calls, list):
        raise RowError(Kind.WRONG_TYPE, field, f"is {type_name(calls)}, not a list of tool calls")
    functions = []
    for index, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise RowError(Kind.TOOLS, f"{field}[{index}]", "a tool call needs a function")
        functions.append(_with_parsed_arguments(function, f"{field}[{index}].function.arguments"))
    return json.dumps(functions, ensure_ascii=False)


def _with_parsed_arguments(function: dict[str, Any], field: str) -> dict[str, Any]:
    arguments = function.get("arguments")
    return function | {"arguments": parsed(arguments, field)} if isinstance(arguments, str) else function


def _role(message: Row, name: str, at: str, roles: Mapping[str, Role]) -> Role:
    value, field = message.get(name), f"{at}.{name}"
    if name not in message:
        raise RowError(Kind.ROLES, field, "the role is missing")
    if isinstance(value, str) and value in roles:
        return roles[value]
    if value == "system":
        raise RowError(Kind.ROLES, field, "a system message may only come first")
    shown = ascii(value[:32]) if isinstance(value, str) else type_name(value)
    raise RowError(Kind.ROLES, field, f"the role is {shown}, not one of system, {', '.join(roles)}")


def _content(role: Role, value: Any, field: str, texts: Texts) -> str:
    match role:
        case "assistant":
            return texts.answer(value, field)
        case "function":
            return tool_call(texts.answer(value, field), field, texts)
        case "user":
            return texts.prompt(value, field)
        case "observation":
            return texts.text(value, field)


def _join_tool_results(turns: Iterator[tuple[str, Turn]]) -> Iterator[tuple[str, Turn]]:
    """Results of tools that follow each other become one turn."""
    waiting: tuple[str, Turn] | None = None
    for at, turn in turns:
        if turn.role == "observation":
            joined = f"{waiting[1].content}{TOOL_RESULTS_JOIN}{turn.content}" if waiting else turn.content
            waiting = (at, Turn("observation", joined))
            continue
        if waiting:
            yield waiting
            waiting = None
        yield at, turn
    if waiting:
        yield waiting


def _in_order(turns: Sequence[tuple[str, Turn]], columns: Columns) -> tuple[Turn, ...]:
    """The turns, of which every other one must ask, and every other one answer."""
    _check_order(turns, columns)
    if len(turns) % 2:
        raise RowError(Kind.NO_ANSWER, turns[-1][0], "the last turn has no answer")
    return tuple(turn for _, turn in turns)


def _check_order(turns: Sequence[tuple[str, Turn]], columns: Columns) -> None:
    for index, (at, turn) in enumerate(turns):
        if (turn.role in ASKING) != (index % 2 == 0):
            expected = "a prompt or a tool's result" if index % 2 == 0 else "an answer or a tool call"
            raise RowError(Kind.ROLES, at, f"{expected} is expected, not {turn.role}")
    if not turns:
        raise RowError(Kind.NO_ANSWER, columns.messages or "", "has no turns")
