"""Formats without roles: prompts and answers (alpaca, singleTurn and multiTurn), and plain texts."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from lorafinetune.api.datasets import Columns
from lorafinetune_stages.prepare.conversation import Conversation, Turn
from lorafinetune_stages.prepare.findings import Kind, RowError
from lorafinetune_stages.prepare.texts import Texts, require_list, require_text, type_name
from lorafinetune_stages.prepare.tools import tool_list

Row = Mapping[str, Any]


def alpaca(row: Row, columns: Columns, texts: Texts) -> Conversation:
    """An alpaca or singleTurn row: earlier pairs, then `instruction\\ninput` and its answer."""
    question = read_prompt(row, columns, texts)
    answer = texts.answer(_value(row, columns.response), columns.response or "")
    return replace(question, turns=(*question.turns, Turn("assistant", answer)))


def read_prompt(row: Row, columns: Columns, texts: Texts) -> Conversation:
    """All of an alpaca row but its answer."""
    turns = (*_history(row, columns.history, texts), Turn("user", _human(row, columns, texts)))
    return Conversation(turns, _system(row, columns, texts), tool_list(row, columns.tools, texts))


def plain_text(row: Row, columns: Columns, texts: Texts) -> Conversation:
    """A text that is learned as it is."""
    field = columns.text or ""
    value = row.get(field)
    if value is None:
        raise RowError(Kind.MISSING_FIELD, field, "the text is missing")
    text = require_text(texts.text(value, field), Kind.EMPTY_TEXT, field, "the text is empty")
    return Conversation((Turn("assistant", text),))


def multi_turn(row: Row, columns: Columns, texts: Texts) -> Conversation:
    """A multiTurn row: the system prompt stands in its first turn, or beside the turns."""
    field = columns.messages or ""
    items = require_list(row, field, "turns")
    if not items:
        raise RowError(Kind.NO_ANSWER, field, "has no turns")
    turns: list[Turn] = []
    system = _system(row, columns, texts)
    for index, item in enumerate(items):
        at = f"{field}[{index}]"
        if not isinstance(item, dict):
            raise RowError(Kind.WRONG_TYPE, at, f"is {type_name(item)}, not an object")
        system = _turn_system(item, columns, texts, at, system if index else "") or system
        turns += _turn(item, columns, texts, at)
    return Conversation(tuple(turns), system)


def _turn(item: Row, columns: Columns, texts: Texts, at: str) -> tuple[Turn, Turn]:
    field = f"{at}.{columns.prompt}"
    if columns.prompt not in item:
        raise RowError(Kind.MISSING_FIELD, field, "the prompt is missing")
    question = texts.prompt(_value(item, columns.prompt), field)
    answer = texts.answer(_value(item, columns.response), f"{at}.{columns.response}")
    return Turn("user", question), Turn("assistant", answer)


def _turn_system(item: Row, columns: Columns, texts: Texts, at: str, before: str) -> str:
    """The system prompt of one turn; a later turn may repeat it, but not change it."""
    field = f"{at}.{columns.system}"
    system = texts.text(_value(item, columns.system), field)
    if system and before and system != before:
        raise RowError(Kind.ROLES, field, "differs from the system prompt of the turns before")
    return system


def _history(row: Row, column: str | None, texts: Texts) -> Iterator[Turn]:
    pairs = _value(row, column)
    if pairs is None:
        return
    if not isinstance(pairs, list):
        raise RowError(Kind.WRONG_TYPE, column or "", f"is {type_name(pairs)}, not a list of pairs")
    for index, pair in enumerate(pairs):
        at = f"{column}[{index}]"
        if not isinstance(pair, list) or len(pair) != 2:
            raise RowError(Kind.WRONG_TYPE, at, "is not a pair of a prompt and an answer")
        yield Turn("user", texts.prompt(pair[0], f"{at}[0]"))
        yield Turn("assistant", texts.answer(pair[1], f"{at}[1]"))


def _human(row: Row, columns: Columns, texts: Texts) -> str:
    if columns.prompt not in row and _value(row, columns.query) is None:
        raise RowError(Kind.MISSING_FIELD, columns.prompt or "", "the prompt is missing")
    parts = [texts.text(_value(row, column), column) for column in (columns.prompt, columns.query) if column]
    return require_text(
        "\n".join(filter(None, parts)), Kind.EMPTY_PROMPT, columns.prompt or "", "the prompt is empty"
    )


def _system(row: Row, columns: Columns, texts: Texts) -> str:
    return texts.text(_value(row, columns.system), columns.system or "")


def _value(row: Row, column: str | None) -> Any:
    return row.get(column) if column else None
