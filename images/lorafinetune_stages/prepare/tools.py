"""Descriptions of tools, and calls of them: JSON in a text, as LLaMA-Factory's templates read it.

Its templates decode the JSON and write it anew. So an escape like `\\u003c` becomes the character that it
stands for, and the decoded texts are checked as well as the text around them.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lorafinetune_stages.prepare.findings import Kind, RowError
from lorafinetune_stages.prepare.json_decoder import Decoder
from lorafinetune_stages.prepare.texts import Texts, type_name


def tool_list(row: Mapping[str, Any], column: str | None, texts: Texts) -> str:
    """The row's tool descriptions as JSON; empty where it has none. Raises RowError."""
    value = row.get(column) if column else None
    if value is None or value == "":
        return ""
    field = column or ""
    text = texts.text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), field)
    tools = parsed(text, field)
    if not isinstance(tools, list):
        raise RowError(Kind.TOOLS, field, f"is {type_name(tools)}, not a list of tools")
    for index, tool in enumerate(tools):
        _check_tool(tool, f"{field}[{index}]")
    _check_texts(tools, field, texts)
    return text


def tool_call(text: str, field: str, texts: Texts) -> str:
    """The text of a tool call. Raises RowError where it is no JSON with name and arguments."""
    calls = parsed(text, field)
    for call in calls if isinstance(calls, list) and calls else [calls]:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str) or "arguments" not in call:
            raise RowError(Kind.TOOLS, field, "a tool call needs name and arguments")
    _check_texts(calls, field, texts)
    return text


def parsed(text: str, field: str) -> Any:
    """The value of JSON in a text. Raises RowError."""
    try:
        found = Decoder().decode(text)
    except (ValueError, RecursionError) as problem:
        raise RowError(Kind.TOOLS, field, "is not JSON") from problem
    if isinstance(found, RowError):
        raise RowError(Kind.TOOLS, field, str(found))
    return found


def _check_tool(tool: Any, field: str) -> None:
    if isinstance(tool, dict) and tool.get("type") == "function":
        tool, field = tool.get("function"), f"{field}.function"
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
        raise RowError(Kind.TOOLS, field, "a tool needs a name")
    parameters = tool.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    if not isinstance(properties, dict) or not all(isinstance(value, dict) for value in properties.values()):
        raise RowError(Kind.TOOLS, field, "a tool needs parameters.properties, an object of objects")


def _check_texts(value: Any, field: str, texts: Texts) -> None:
    for text in _texts_in(value):
        texts.text(text, field)


def _texts_in(value: Any) -> Iterator[str]:
    """Every text in a value of JSON, names of fields included. It may be nested deeper than calls may be."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                yield text
            case dict() as fields:
                yield from fields
                waiting += fields.values()
            case list() as items:
                waiting += items
