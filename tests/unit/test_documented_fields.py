"""What the pages call a field is one, of the resource, its status or a chart, and takes the value that stands
beside it; what they call a key of a row is one that is read."""

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import pytest
import yaml

from documents import ROOT, prose
from lorafinetune.api.crd import schema
from lorafinetune.api.structural import broken
from lorafinetune_stages.prepare.formats import FORMATS, FormatName

Schema = dict[str, Any]
Takes = Callable[[Any], bool]

SPAN: Final = re.compile(r"`([^`\n]+)`")
FIELD: Final = re.compile(r"[a-z]\w*(?:\.\w+(?:\[\])?)+")
SET: Final = re.compile(r"([a-z][\w.]*): (\S.*)")
FILE: Final = re.compile(r"\.(html|jinja|json|jsonl|py|safetensors|yaml|yml|lock|toml)$")
TAGS: Final = "lorafinetune."
"""With which the tags of trackers begin."""
FOREIGN: Final = {
    "automountServiceAccountToken": "a pod's",
    "envFrom": "a container's",
    "eval_strategy": "an argument of LLaMA-Factory",
    "grafana_dashboard": "a label that Grafana's sidecar looks for",
    "model.layers": "the modules of a model",
    "plan.shards": "in the lineage",
    "spec.serviceAccountName": "a Kustomization's",
    "warmup_steps": "an argument of LLaMA-Factory",
}
"""What is no field of ours, and whose it is."""


def fields() -> Iterator[tuple[tuple[str, ...], Takes]]:
    """The path of every field, and what tells whether it takes a value."""
    yield from ((at, partial(_fits, node)) for at, node in _within(schema(), {}))
    for chart in ("lorafinetune", "lorafinetune-tenant"):
        values = json.loads((ROOT / "charts" / chart / "values.schema.json").read_text())
        yield from ((at, partial(_is_choice, node)) for at, node in _within(values, values["$defs"]))


def _within(
    node: Schema, definitions: Schema, at: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Schema]]:
    node = definitions[node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    yield at, node
    yield from _within(node["items"], definitions, at) if "items" in node else ()
    for name, child in node.get("properties", {}).items():
        yield from _within(child, definitions, (*at, name))


def _fits(node: Schema, value: Any) -> bool:
    return not list(broken(value, node))


def _is_choice(node: Schema, value: Any) -> bool:
    return value in node.get("enum", ())


FIELDS: Final = list(fields())


def named(path: str) -> list[Takes]:
    """Of all fields whose paths end so. A place in a list is left out; STAGE and the like are any name."""
    parts = [part for part in path.replace("[]", "").split(".") if not part.isdigit()]
    ends = ((at[-len(parts) :], takes) for at, takes in FIELDS if len(at) >= len(parts))
    return [
        takes
        for end, takes in ends
        if all(p.isupper() or p == name for name, p in zip(end, parts, strict=True))
    ]


SPANS: Final = sorted({span for text in prose() for span in SPAN.findall(text)})
PATHS: Final = [span for span in SPANS if FIELD.fullmatch(span) and not FILE.search(span)]
VALUES: Final = [found.groups() for span in SPANS if (found := SET.fullmatch(span))]


@pytest.mark.parametrize("path", PATHS)
def test_a_field_that_is_named_is_there(path: str) -> None:
    assert named(path) or path in FOREIGN or path.startswith(TAGS)


@pytest.mark.parametrize(("path", "value"), VALUES)
def test_a_value_that_is_named_is_taken(path: str, value: str) -> None:
    given = yaml.safe_load(value)
    assert path in FOREIGN or any(takes(given) for takes in named(path))


def test_nothing_is_called_foreign_that_no_page_names() -> None:
    assert FOREIGN.keys() <= {*PATHS, *(path for path, _ in VALUES)}


ROWS: Final = dict(re.findall(r"^\| `(\w+)` \| (`\{.*)$", (ROOT / "docs/how-to/data.md").read_text(), re.M))
KEY: Final = re.compile(r"[{,] ?\[?(\w+)\??(?=[:,}])")
OF_TURNS: Final = {"conversations": ("from", "value"), "messages": ("role", "content", "tool_calls")}
"""Keys within a column that no dataset can give other names."""


def test_every_format_is_in_the_table() -> None:
    assert ROWS.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_the_keys_of_its_rows_are_those_that_are_read(name: FormatName) -> None:
    columns = [column for column in FORMATS[name].columns.model_dump().values() if column]
    read = {*columns, *(key for column in columns for key in OF_TURNS.get(column, ()))}
    said = set(KEY.findall(ROWS[name]))
    assert said
    assert said <= read
