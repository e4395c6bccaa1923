"""The reference page of the API, made from the typed models: `python -m lorafinetune.api.reference`."""

import json
import sys
import typing
from collections.abc import Iterator
from typing import Any, Final

from lorafinetune.api.crd import schema
from lorafinetune.api.reasons import FACTS, MEANINGS
from lorafinetune.api.types import FORM

INTRODUCTION = """# API reference

<!-- Generated from the typed models by `make generate`. -->

`lorafinetune.dev/v1alpha1`, kind `LoRAFineTune`, short name `lft`. A dash in the column *default* means
that the field may be left out; **required** fields may not. What may stand in `spec.training.extraArgs` has
[a page of its own](extra-args.md).
"""

HEADER = "| field | type | default | |\n|---|---|---|---|\n"


MEANT: Final = "".join(f"- **{retry}**: {meaning}\n" for retry, meaning in MEANINGS.items())

RETRIES: Final = f"""Whether a stage is tried again is decided by the reason.

{MEANT}
A run on a laptop does not wait: it ends with the reason.

| reason | when | what to do | tried again |
|---|---|---|---|
"""


def page() -> str:
    """The page as Markdown."""
    properties = schema()["properties"]
    tables = [
        f"## {name}\n\n{HEADER}" + "".join(_rows(properties[name], name)) for name in ("spec", "status")
    ]
    return "\n".join([INTRODUCTION, *tables, _reasons()])


def _rows(node: dict[str, Any], path: str) -> Iterator[str]:
    required = node.get("required", [])
    for name, child in node.get("properties", {}).items():
        here = f"{path}.{name}"
        yield f"| `{here}` | {_type(child)} | {_default(name, child, required)} | {_text(child)} |\n"
        items = child.get("items", {})
        yield from _rows(child, here)
        yield from _rows(items, f"{here}[]")


def _type(node: dict[str, Any]) -> str:
    if "enum" in node:
        return " \\| ".join(f"`{option}`" for option in node["enum"])
    if node.get("x-kubernetes-int-or-string"):
        return str(node[FORM])
    if node.get("type") == "array":
        return f"list of {_type(node['items'])}"
    if "additionalProperties" in node:
        return f"map of {_type(node['additionalProperties'])}"
    bounds = [
        f"{sign} {node[key]}"
        for key, sign in (("minimum", "≥"), ("maximum", "≤"))
        if 0 < abs(node.get(key, 0)) < 2**53
    ]
    return ", ".join([str(node.get("type", "object")), *bounds])


def _default(name: str, node: dict[str, Any], required: list[str]) -> str:
    if name in required:
        return "**required**"
    default = node.get("default")
    if default in (None, [], {}) or isinstance(default, dict):
        return "–"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _text(node: dict[str, Any]) -> str:
    return " ".join(typing.cast(str, node.get("description", "")).split()).replace("|", "\\|")


def _reasons() -> str:
    rows = "".join(f"| `{name}` | {f.when} | {f.hint} | {f.retry} |\n" for name, f in FACTS.items())
    return f"## Failure reasons\n\n{RETRIES}{rows}"


if __name__ == "__main__":
    sys.stdout.write(page())
