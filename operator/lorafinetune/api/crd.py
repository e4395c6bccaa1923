"""The CustomResourceDefinition, made from the typed models.

pydantic writes JSON schema with references and unions; the API server wants a structural schema:
everything in place, one type a node, no `additionalProperties: false`.
"""

from typing import Any

from lorafinetune.api import GROUP, KIND, PLURAL, VERSION
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.types import FORM, UNREAD

COLUMNS = (
    ("Stage", "string", ".status.stage", 0),
    ("Progress", "string", ".status.progress", 0),
    ("Loss", "string", ".status.loss", 0),
    ("ETA", "string", ".status.eta", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0),
    ("Model", "string", ".spec.model.source", 1),
    ("Step", "integer", ".status.training.step", 1),
    ("Resumes", "integer", ".status.resumes", 1),
    ("Adapter", "string", ".status.artifacts.adapter.uri", 1),
)


def crd() -> dict[str, Any]:
    """The CRD as JSON types, ready for YAML."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["lft"],
                "categories": ["ml"],
            },
            "scope": "Namespaced",
            "versions": [_version()],
        },
    }


def schema() -> dict[str, Any]:
    """The structural schema of the whole resource, with keywords of our own that help the decoder."""
    whole = LoRAFineTune.model_json_schema(by_alias=True, mode="validation")
    root: dict[str, Any] = _structural(whole, whole["$defs"])
    return root


def _version() -> dict[str, Any]:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path} | ({"priority": priority} if priority else {})
            for name, kind, path, priority in COLUMNS
        ],
        "schema": {"openAPIV3Schema": _published()},
    }


def _published() -> dict[str, Any]:
    """The schema as the API server takes it: metadata is checked by its own types."""
    root: dict[str, Any] = _without_own_keywords(schema())
    root["properties"]["metadata"] = {"type": "object"}
    return root | {"required": ["spec"]}


def _without_own_keywords(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_own_keywords(value) for key, value in node.items() if key not in (FORM, UNREAD)}
    return node


DROPPED = frozenset({"title", "$defs", "propertyNames"})


def _structural(node: Any, definitions: dict[str, Any]) -> Any:
    """The same schema without references, unions and whatever else the API server refuses."""
    if isinstance(node, list):
        return [_structural(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        return _structural(target | {k: v for k, v in node.items() if k != "$ref"}, definitions)
    if "anyOf" in node:
        return _structural(_union(node), definitions)
    return dict(
        _keyword(keyword, value, definitions)
        for keyword, value in node.items()
        if keyword not in DROPPED
        and (keyword, value) not in (("additionalProperties", False), ("default", None))
    )


def _keyword(keyword: str, value: Any, definitions: dict[str, Any]) -> tuple[str, Any]:
    match keyword:
        case "properties":
            return keyword, {name: _structural(schema, definitions) for name, schema in value.items()}
        case "const":
            return "enum", [value]
        case "default":
            return keyword, _without_nulls(value)
        case "description":
            return keyword, " ".join(value.split())
        case _:
            return keyword, _structural(value, definitions)


def _union(node: dict[str, Any]) -> dict[str, Any]:
    """`X | None` is X; a number or a string is Kubernetes' int-or-string."""
    outer = {keyword: value for keyword, value in node.items() if keyword != "anyOf"}
    members = [member for member in node["anyOf"] if member != {"type": "null"}]
    if len(members) == 1:
        return dict(members[0] | outer)
    bounds: dict[str, Any] = {}
    for member in members:
        bounds |= _word(member["const"]) if "const" in member else member
    return {keyword: value for keyword, value in bounds.items() if keyword != "type"} | outer


def _word(word: str) -> dict[str, Any]:
    """The only string that an int-or-string may be."""
    return {"pattern": f"^{word}$", "maxLength": len(word), FORM: f"a whole number or {word}"}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return value
