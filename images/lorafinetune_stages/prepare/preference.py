"""Pairs of answers to one prompt, of which one is preferred."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lorafinetune.api.spec import Columns
from lorafinetune_stages.prepare import messages, pairs
from lorafinetune_stages.prepare.conversation import Conversation, Turn
from lorafinetune_stages.prepare.findings import Kind, RowError
from lorafinetune_stages.prepare.texts import Texts

Row = Mapping[str, Any]


def preference(row: Row, columns: Columns, texts: Texts) -> Conversation:
    """The prompt is a text with what alpaca has beside it, or a list of messages; an answer is a text or a
    message, alone or in a list."""
    names = (columns.response or "", columns.rejected or "")
    before = _asked(row, columns, texts)
    chosen, rejected = (_answer(row.get(name), name, texts) for name in names)
    pair = replace(before, turns=(*before.turns, Turn("assistant", chosen), Turn("assistant", rejected)))
    check_pair(pair, names[1])
    return pair


def check_pair(pair: Conversation, field: str) -> None:
    """Raises RowError where nothing is preferred to anything."""
    if pair.turns[-1] == pair.turns[-2]:
        raise RowError(Kind.EQUAL_ANSWERS, field, "the rejected answer is the chosen one")


def _asked(row: Row, columns: Columns, texts: Texts) -> Conversation:
    if isinstance(row.get(columns.prompt or ""), list):
        return messages.asked(row, columns.model_copy(update={"messages": columns.prompt}), texts)
    return pairs.asked(row, columns, texts)


def _answer(value: Any, field: str, texts: Texts) -> str:
    if isinstance(value, list) and len(value) == 1:
        value, field = value[0], f"{field}[0]"
    if isinstance(value, list):
        raise RowError(Kind.WRONG_TYPE, field, f"is a list of {len(value)} messages, not of the answer alone")
    return messages.answer(value, field, texts) if isinstance(value, dict) else texts.answer(value, field)
