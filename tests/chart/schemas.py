"""The schemas that a real API server serves, as files that kubeconform reads: it needs no network then."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from chart.helm import Object
from cluster.apiserver import ApiServer

LOCATION: Final = "{{ .ResourceKind }}{{ .KindSuffix }}.json"
REFERENCE: Final = "#/definitions/"
SAID_IN_WORDS_ALONE: Final[Object] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
}


def write(server: ApiServer, folder: Path) -> str:
    """Writes a file for each kind; the location, as kubeconform takes it."""
    definitions = json.loads(server.request("GET", "/openapi/v2"))["definitions"] | SAID_IN_WORDS_ALONE
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            needed = {one: _strict(definitions[one]) for one in _needed(name, definitions)}
            schema = {"$ref": REFERENCE + name, "definitions": needed}
            (folder / _file(**kind)).write_text(json.dumps(schema))
    return str(folder / LOCATION)


def _file(group: str, version: str, kind: str) -> str:
    return "-".join(filter(None, [kind, group.partition(".")[0], version])).lower() + ".json"


def _needed(name: str, definitions: Object) -> set[str]:
    """A definition and all that it refers to."""
    found, new = set[str](), {name}
    while new:
        found |= new
        new = {other for one in new for other in _references(definitions[one])} - found
    return found


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str):
            yield reference.removeprefix(REFERENCE)
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _references(child)


def _strict(definition: Object) -> Object:
    """As the server is with strict validation: a field that is not declared is refused."""
    if "properties" not in definition or definition.get("x-kubernetes-preserve-unknown-fields"):
        return definition
    return {"additionalProperties": False} | definition
