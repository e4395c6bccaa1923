"""Rows that are plainly good: user and assistant in turn, no tools, every value of the kind it should be.

This module turns them into what the converters of the formats make (see formats.py), several times as fast.
It judges no other row, and of a text it only checks that it is not empty.
"""

from collections.abc import Callable
from math import isinf
from typing import Any, Final

from lorafinetune.api.datasets import Columns
from lorafinetune_stages.prepare.conversation import Packed
from lorafinetune_stages.prepare.texts import BLANKS

NOT_PLAIN: Final = (AttributeError, LookupError, TypeError, ValueError)
"""What is raised here for any other row."""
NOT_COUNTED: Final = {bool, int, type(None)}
TEXTS: Final = {str: 1, type(None): 0}
"""How many strings a text is, or null, by its type; there is no other."""

Row = dict[Any, Any]
Pack = Callable[[Row, str], tuple[Packed, int]]
"""What the corpus keeps of a row with its place, and how many strings the row has in JSON, names of fields
included. The row is used up."""


def pair_packer(columns: Columns) -> Pack:
    """Of alpaca and singleTurn."""
    prompt, query, response = columns.prompt, columns.query, columns.response
    system, history, tools = columns.system, columns.history, columns.tools

    def pack(row: Row, place: str) -> tuple[Packed, int]:
        strings, take = len(row) + 1, row.pop
        asked, more = take(prompt, None), take(query, None)
        own, earlier = take(system, None), take(history, None)
        strings += TEXTS[type(asked)] + TEXTS[type(more)] + TEXTS[type(own)] + _no_text(take(tools, None))
        packed = [place, own or "", "", ""]
        for pair in () if earlier is None else _listed(earlier):
            before, require_text = _listed(pair)
            packed += before, require_text
        strings += len(packed) - 4
        packed += f"{asked}\n{more}" if asked and more else asked or more, take(response)
        return _finished(packed), strings + _others(row)

    return pack


def turns_packer(columns: Columns) -> Pack:
    """Of multiTurn."""
    prompt, response, system = columns.prompt, columns.response, columns.system

    def pack(row: Row, place: str) -> tuple[Packed, int]:
        packed, strings, first = [place, "", "", ""], len(row), row.pop(system, None)
        strings += TEXTS[type(first)]
        for turn in _listed(row.pop(columns.messages)):
            strings, own = strings + len(turn) + 2, turn.pop(system, None)
            strings += TEXTS[type(own)]
            if own and own != (packed[1] or own):
                raise ValueError("the system prompt changes")
            packed[1] = own or packed[1] or first or ""
            packed += turn.pop(prompt), turn.pop(response)
            strings += _others(turn)
        return _finished(packed), strings + _others(row)

    return pack


def sharegpt_packer(columns: Columns) -> Pack:
    return _messages_packer(columns, ("from", "value"), ("human", "gpt"))


def openai_packer(columns: Columns) -> Pack:
    return _messages_packer(columns, ("role", "content"), ("user", "assistant"))


def text_packer(columns: Columns) -> Pack:
    """Of texts that are learned as they are."""

    def pack(row: Row, place: str) -> tuple[Packed, int]:
        strings, text = len(row) + 1, row.pop(columns.text)
        return _said([place, "", "", "a", text]), strings + _others(row)

    return pack


def _messages_packer(columns: Columns, names: tuple[str, str], speakers: tuple[str, str]) -> Pack:
    role, content = names

    def pack(row: Row, place: str) -> tuple[Packed, int]:
        packed, strings, messages = [place, "", "", ""], len(row), _listed(row.pop(columns.messages))
        strings += _no_text(row.pop(columns.tools, None))
        if messages and messages[0].get(role) == "system":
            first = messages.pop(0)
            strings += len(first)
            own = first.pop(content)
            strings += _others(first)
        else:
            own = row.pop(columns.system, None)
        strings += TEXTS[type(own)]
        packed[1] = own or ""
        for message in messages:
            strings += len(message) + 2
            if message.pop(role) != speakers[len(packed) % 2]:
                raise ValueError("another speaks")
            packed.append(message.pop(content))
            if message:
                strings += _beside(message)
        return _finished(packed), strings + _others(row)

    return pack


def _finished(packed: Packed) -> Packed:
    """With the roles of whoever speaks in turn."""
    packed[3] = "ua" * (len(packed) // 2 - 2)
    if len(packed) % 2 or not packed[3]:
        raise ValueError("the last turn has no answer")
    return _said(packed)


def _said(packed: Packed) -> Packed:
    """That every text has something in it is plain where its first character is one that can be seen."""
    for text in packed[4:]:
        first = text.lstrip()[0]
        if first in BLANKS or not first.isprintable():
            raise ValueError("nothing may be said")
    return packed


def _beside(message: Row) -> int:
    """The same of what a message has beside role and content."""
    if message.get("tool_calls") or message.get("weight", 1) != 1:
        raise ValueError("a tool is called, or the message is not learned as others are")
    return _others(message)


def _listed(value: Any) -> list[Any]:
    if type(value) is not list:
        raise TypeError("not a list")
    return value


def _no_text(value: Any) -> int:
    """The same of a text that may be there, but must be empty."""
    if value:
        raise ValueError("not empty")
    return TEXTS[type(value)]


def _others(values: Row) -> int:
    """How many strings the fields have that nothing is made of. A number of more digits than the standard
    library reads is infinite here."""
    strings = 0
    for value in values.values():
        if type(value) is str:
            strings += 1
        elif type(value) not in NOT_COUNTED and (type(value) is not float or isinf(value)):
            raise TypeError("not one value")
    return strings
