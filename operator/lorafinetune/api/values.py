"""Whether one value fits one node of a schema, and if not, why not in plain words."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from pydantic_core import SchemaValidator, core_schema

from lorafinetune.api.problem import display_value, suggestion
from lorafinetune.api.sources import BUCKET, S3
from lorafinetune.api.types import FORM, is_time

Schema = Mapping[str, Any]
Misfit = tuple[str, str]
"""What is wrong, and a hint that may be empty."""

INT_OR_STRING: Final = "x-kubernetes-int-or-string"
KINDS: Final[Mapping[type, str]] = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "integer",
}
WORDS: Final = {
    "object": "an object",
    "array": "a list",
    "string": "a string",
    "boolean": "true or false",
    "integer": "a whole number",
}


NUMBER: Final = re.compile("-?[0-9]{1,18}")
"""What is a whole number without its quotes: one with more digits may be a text without them, too."""
IN_A_BUCKET: Final = re.compile(f"{S3}{BUCKET}(/|$)")
BUCKETS: Final = "a bucket's name has 3 to 63 lowercase letters, digits, dots and hyphens"


def misfit(value: Any, node: Schema) -> Misfit | None:
    """The first thing that is wrong with a value by itself: what is in it is not looked at."""
    return next((found for check in CHECKS if (found := check(value, node))), None)


def _option(value: Any, node: Schema) -> Misfit | None:
    options = node.get("enum")
    if options is None or value in options:
        return None
    return f"must be one of {', '.join(options)}, not {display_value(value)}", suggestion(str(value), options)


def _type(value: Any, node: Schema) -> Misfit | None:
    wanted = ("integer", "string") if node.get(INT_OR_STRING) else (node["type"],)
    if KINDS.get(type(value)) in wanted:
        return None
    words = node[FORM] if node.get(INT_OR_STRING) else WORDS[node["type"]]
    return f"must be {words}, not {display_value(value)}", _quoting(value, wanted)


def _form(value: Any, node: Schema) -> Misfit | None:
    if not isinstance(value, str) or "pattern" not in node:
        return None
    if _matches(node["pattern"], value) and (node.get("format") != "date-time" or is_time(value)):
        return None
    hint = _quoting(value, ("integer",)) if node.get(INT_OR_STRING) else _naming(value, node["pattern"])
    return f"must be {node[FORM]}, not {display_value(value)}", hint


def _length(value: Any, node: Schema) -> Misfit | None:
    if isinstance(value, str):
        if len(value) > node.get("maxLength", len(value)):
            return f"must have at most {node['maxLength']} characters, not {len(value)}", ""
        if len(value) < node.get("minLength", 0):
            return "must not be empty", ""
    return None


def _range(value: Any, node: Schema) -> Misfit | None:
    if isinstance(value, int) and not isinstance(value, bool):
        if value < node["minimum"]:
            return f"must be at least {node['minimum']}, not {value}", ""
        if value > node["maximum"]:
            return f"must be at most {node['maximum']}, not {value}", ""
    return None


def _size(value: Any, node: Schema) -> Misfit | None:
    if isinstance(value, dict | list):
        word, most = ("items", "maxItems") if isinstance(value, list) else ("entries", "maxProperties")
        if len(value) > node.get(most, len(value)):
            return f"must have at most {node[most]} {word}, not {len(value)}", ""
        if len(value) < node.get("minItems", 0):
            return "must not be empty", ""
    return None


def _quoting(value: Any, wanted: tuple[str, ...]) -> str:
    """What to do about quotes, if they are the trouble."""
    if wanted == ("string",) and isinstance(value, int | float):
        return f'quote it: "{display_value(value)}"'
    number = isinstance(value, str) and NUMBER.fullmatch(value)
    if ("integer" in wanted and number) or ("boolean" in wanted and value in ("true", "false")):
        return f"remove the quotes: {display_value(value)[1:-1]}"
    return ""


def _naming(value: str, pattern: str) -> str:
    """What a bucket may be called, if its name is the trouble: else the place looks as it is asked for."""
    return BUCKETS if S3 in pattern and value.startswith(S3) and not IN_A_BUCKET.match(value) else ""


@cache
def _matcher(pattern: str) -> SchemaValidator:
    return SchemaValidator(core_schema.str_schema(pattern=pattern))


def _matches(pattern: str, text: str) -> bool:
    """By the linear-time engine that the typed models use too."""
    return _matcher(pattern).isinstance_python(text)


CHECKS: Final[tuple[Callable[[Any, Schema], Misfit | None], ...]] = (
    _option,
    _type,
    _form,
    _length,
    _range,
    _size,
)
