"""The CRD has only what a structural schema may have, and bounds and words for everything."""

from collections.abc import Iterator
from typing import Any

import pytest

from lorafinetune.api.crd import COLUMNS, crd, schema
from lorafinetune.api.types import FORM

Node = dict[str, Any]

KEYWORDS = {
    *("type", "description", "default", "enum", "format", "pattern", "required", "items", "properties"),
    *("minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "maxProperties"),
    *("additionalProperties", "x-kubernetes-int-or-string", "x-kubernetes-validations"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
}
"""What may stand in a node; `$ref`, `anyOf`, `title` and our own words may not."""


def published() -> Node:
    (version,) = crd()["spec"]["versions"]
    root: Node = version["schema"]["openAPIV3Schema"]
    return root


def nodes(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for inner, mark in (("items", "[]"), ("additionalProperties", ".*")):
        if inner in node:
            yield from nodes(node[inner], f"{path}{mark}")


NODES = dict(nodes(published(), ""))
DECLARED = {path: node for path, node in NODES.items() if path != ".metadata"}
PROPERTIES = {path: node for path, node in DECLARED.items() if path and not path.endswith(("[]", ".*"))}


def test_spec_and_status_are_there() -> None:
    assert {".spec.training.lora.targets[]", ".status.conditions[].type"} < NODES.keys()


@pytest.mark.parametrize("path", NODES)
def test_node_has_only_what_the_api_server_takes(path: str) -> None:
    node = NODES[path]
    assert node.keys() <= KEYWORDS
    assert isinstance(node.get("additionalProperties", {}), dict)
    assert ("type" in node) != ("x-kubernetes-int-or-string" in node)


def bounds(node: Node) -> set[str]:
    """The keywords that bound what a node may hold."""
    if node.get("x-kubernetes-int-or-string"):
        return {"minimum", "maximum", "maxLength", "pattern"}
    if "enum" in node or "properties" in node:
        return set()
    by_type = {
        "string": {"maxLength"},
        "integer": {"minimum", "maximum"},
        "array": {"maxItems"},
        "object": {"maxProperties", "additionalProperties"},
        "boolean": set[str](),
    }
    return by_type[node["type"]]


@pytest.mark.parametrize("path", DECLARED)
def test_node_is_bounded(path: str) -> None:
    assert bounds(DECLARED[path]) <= DECLARED[path].keys()


@pytest.mark.parametrize("path", PROPERTIES)
def test_field_is_described(path: str) -> None:
    description = PROPERTIES[path].get("description", "")
    assert description.endswith((".", "`"))
    assert "\n" not in description


@pytest.mark.parametrize("path", [path for path, node in DECLARED.items() if node.get("type") == "array"])
def test_list_of_named_things_is_a_map(path: str) -> None:
    node = DECLARED[path]
    for key in node.get("x-kubernetes-list-map-keys", []):
        assert key in node["items"]["required"]
    assert ("x-kubernetes-list-map-keys" in node) == (node.get("x-kubernetes-list-type") == "map")


def test_which_lists_are_maps() -> None:
    keys = {path: node.get("x-kubernetes-list-map-keys") for path, node in DECLARED.items()}
    assert {path: names for path, names in keys.items() if names} == {
        ".spec.connections": ["name"],
        ".spec.export.publish": ["to"],
        ".spec.export.trackers": ["name"],
        ".spec.scheduling.imagePullSecrets": ["name"],
        ".status.conditions": ["type"],
        ".status.stages": ["name"],
    }


def test_a_docstring_of_a_property_wins_over_that_of_its_class() -> None:
    descriptions = [DECLARED[f".spec.resources.{stage}"]["description"] for stage in ("download", "train")]
    assert descriptions == ["Resources of the download.", "Resources of the training."]


@pytest.mark.parametrize(("name", "kind", "path"), [column[:3] for column in COLUMNS])
def test_column_shows_a_declared_scalar(name: str, kind: str, path: str) -> None:
    if not path.startswith(".metadata"):
        assert DECLARED[path.replace('[?(@.type=="Ready")]', "[]")]["type"] == kind


def test_every_pattern_has_words_for_error_messages() -> None:
    wordless = [path for path, node in nodes(schema(), "") if "pattern" in node and FORM not in node]
    assert wordless == []


def test_lower_bounds_are_those_that_error_messages_can_name() -> None:
    lower = {node.get(keyword, 1) for node in NODES.values() for keyword in ("minItems", "minLength")}
    assert lower == {1}
