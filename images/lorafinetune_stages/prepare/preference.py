"""Pairs of answers to one prompt, of which one is preferred."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lorafinetune.api.datasets import Columns
from lorafinetune_stages.prepare import messages, pairs
from lorafinetune_stages.prepare.conversation import Conversation, Turn
from lorafinetune_stages.prepare.findings import Kind, RowError
from lorafinetune_stages.prepare.texts import Texts, type_name

Row = Mapping[str, Any]


def preference(row: Row, columns: Columns, texts: Texts) -> Conversation:
    """The prompt is a text with what alpaca has beside it, or a list of messages; an answer is a text or a
    message, alone or in a list. Or both answers are whole conversations that differ in the last message."""
    names = (columns.response or "", columns.rejected or "")
    whole = [is_conversation(row.get(name)) for name in names]
    if any(whole):
        before = _asked_in_both(row, names, whole, columns, texts)
        answers = [_last(row[name], name, texts) for name in names]
    else:
        before = _asked(row, columns, texts)
        answers = [_answer(row.get(name), name, texts) for name in names]
    pair = replace(before, turns=(*before.turns, *[Turn("assistant", answer) for answer in answers]))
    check_pair(pair, names[1])
    return pair


def check_pair(pair: Conversation, field: str) -> None:
    """Raises RowError where nothing is preferred to anything."""
    if pair.turns[-1] == pair.turns[-2]:
        raise RowError(Kind.EQUAL_ANSWERS, field, "the rejected answer is the chosen one")


def is_conversation(value: Any) -> bool:
    """Whether an answer has its prompt with it."""
    return isinstance(value, list) and len(value) > 1


def _asked(row: Row, columns: Columns, texts: Texts) -> Conversation:
    if isinstance(row.get(columns.prompt or ""), list):
        return messages.read_prompt(row, columns.model_copy(update={"messages": columns.prompt}), texts)
    return pairs.read_prompt(row, columns, texts)


def _asked_in_both(
    row: Row, names: Sequence[str], whole: Sequence[bool], columns: Columns, texts: Texts
) -> Conversation:
    """What stands before the last messages of both conversations. A prompt beside them must be in it."""
    if not all(whole):
        field = names[whole.index(False)]
        raise RowError(Kind.WRONG_TYPE, field, "is no whole conversation, as the other answer is")
    chosen, rejected = (
        messages.read_prompt(
            {**row, name: row[name][:-1]}, columns.model_copy(update={"messages": name}), texts
        )
        for name in names
    )
    if chosen != rejected:
        raise RowError(Kind.PROMPTS, names[1], f"differs from {names[0]} before the last message")
    _check_prompt(row, columns, chosen, texts)
    return chosen


def _check_prompt(row: Row, columns: Columns, conversation: Conversation, texts: Texts) -> None:
    """A prompt that is given again, as a text or as messages, and what alpaca has beside it."""
    field = columns.prompt or ""
    prompt = row.get(field)
    if isinstance(prompt, list):
        same = _asked(row, columns, texts).turns == conversation.turns
    else:
        same = prompt in (None, "") or Turn("user", prompt) in conversation.turns
    if not same:
        raise RowError(Kind.PROMPTS, field, "is not what the conversations ask")
    for name in (columns.query, columns.history):
        if name and row.get(name):
            raise RowError(Kind.PROMPTS, name, "does not go with whole conversations")


def _last(conversation: Sequence[Any], name: str, texts: Texts) -> str:
    """The answer at the end of a whole conversation."""
    message, field = conversation[-1], f"{name}[{len(conversation) - 1}]"
    if not isinstance(message, dict):
        raise RowError(Kind.WRONG_TYPE, field, f"is {type_name(message)}, not an object")
    return messages.answer(message, field, texts)


def _answer(value: Any, field: str, texts: Texts) -> str:
    if isinstance(value, list) and value:
        value, field = value[0], f"{field}[0]"
    return messages.answer(value, field, texts) if isinstance(value, dict) else texts.answer(value, field)
