"""Conversations as a server writes them: by the model's own chat template, from messages as it gets them."""

import json
from collections.abc import Iterator
from typing import Any, Final

from lorafinetune_stages.prepare.conversation import Conversation, Turn
from lorafinetune_stages.prepare.messages import TOOL_RESULTS_JOIN

CALL_ID: Final = "call00000"
"""Some templates ask for one of nine characters."""

Message = dict[str, Any]


def own_text(conversation: Conversation, tokenizer: Any) -> str | None:
    """None where the template refuses the conversation, or there is none."""
    try:
        text: str = tokenizer.apply_chat_template(
            list(_messages(conversation)), tools=_tools(conversation), tokenize=False
        )
        text.encode()  # it may have written half a character
    except Exception:  # a template is a program of the model's author, and may raise anything
        return None
    return text


def _messages(conversation: Conversation) -> Iterator[Message]:
    if conversation.system:
        yield {"role": "system", "content": conversation.system}
    for turn in conversation.turns:
        yield from _of_turn(turn)


def _of_turn(turn: Turn) -> Iterator[Message]:
    match turn.role:
        case "function":
            calls = json.loads(turn.content)
            calls = [_call(call) for call in (calls if isinstance(calls, list) else [calls])]
            yield {"role": "assistant", "content": "", "tool_calls": calls}
        case "observation":
            for result in turn.content.split(TOOL_RESULTS_JOIN):
                yield {"role": "tool", "content": result, "tool_call_id": CALL_ID}
        case role:
            yield {"role": role, "content": turn.content}


def _call(call: Message) -> Message:
    function = {"name": call["name"], "arguments": call["arguments"]}
    return {"id": CALL_ID, "type": "function", "function": function}


def _tools(conversation: Conversation) -> list[Any] | None:
    if not conversation.tools:
        return None
    tools = json.loads(conversation.tools)
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools] or None
