"""The CustomResourceDefinition, made from the typed models.

pydantic writes JSON schema with references and unions; the API server wants a structural schema:
everything in place, one type a node, no `additionalProperties: false`.
"""

from typing import Any

from lorafinetune.api import GROUP, KIND, PLURAL, VERSION
from lorafinetune.api.resource import LoRAFineTune

COLUMNS = (
    ("Stage", "string", ".status.stage", 0),
    ("Progress", "string", ".status.progress", 0),
    ("Loss", "string", ".status.loss", 0),
    ("ETA", "string", ".status.eta", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
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
    """The structural schema of the whole resource."""
    whole = LoRAFineTune.model_json_schema(by_alias=True, mode="validation")
    root: dict[str, Any] = _structural(whole, whole["$defs"])
    root["properties"] |= {name: {"type": "string"} for name in ("apiVersion", "kind")}
    root["properties"]["metadata"] = {"type": "object"}
    return root | {"required": ["spec"]}


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
        "schema": {"openAPIV3Schema": schema()},
    }


DROPPED = frozenset({"title", "$defs", "const", "propertyNames"})


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
    return {
        keyword: _keyword(keyword, value, definitions)
        for keyword, value in node.items()
        if keyword not in DROPPED
        and (keyword, value) not in (("additionalProperties", False), ("default", None))
    }


def _keyword(keyword: str, value: Any, definitions: dict[str, Any]) -> Any:
    if keyword == "properties":
        return {name: _structural(schema, definitions) for name, schema in value.items()}
    if keyword == "default":
        return _without_nulls(value)
    return _structural(value, definitions)


def _union(node: dict[str, Any]) -> dict[str, Any]:
    """`X | None` is X; a number or a string is Kubernetes' int-or-string."""
    outer = {keyword: value for keyword, value in node.items() if keyword != "anyOf"}
    members = [member for member in node["anyOf"] if member != {"type": "null"}]
    if len(members) == 1:
        return dict(members[0] | outer)
    bounds: dict[str, Any] = {}
    for member in members:
        if "const" in member:
            bounds["pattern"] = f"^{member['const']}$"
        bounds |= {k: v for k, v in member.items() if k not in ("type", "const")}
    return bounds | outer


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return value
