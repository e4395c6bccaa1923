"""The paths at which the API server keeps what we read and write, and what a path is about."""

import re
from dataclasses import dataclass
from typing import Final

from lorafinetune.api import API_VERSION, PLURAL
from lorafinetune.core.observed import OURS

VERSIONS: Final = {
    PLURAL: API_VERSION,
    "jobs": "batch/v1",
    "pods": "v1",
    "events": "v1",
    "services": "v1",
    "configmaps": "v1",
}
INDEXED: Final = {PLURAL: "", "jobs": "=".join(OURS), "pods": "=".join(OURS)}
"""The kinds of which every object is known, with the label of those that are ours."""
VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
OBJECT: Final = re.compile(
    r"^/(?:api|apis/[^/]+)/[^/]+(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?$"
)


@dataclass(frozen=True)
class Call:
    """A request in the words of RBAC. plural: `other` for what is no object."""

    verb: str
    plural: str
    namespace: str | None = None


def path(plural: str, namespace: str | None, name: str = "", sub: str = "") -> str:
    """Of a collection, an object or a subresource. namespace: None is the whole cluster."""
    version = VERSIONS[plural]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    within = f"/namespaces/{namespace}" if namespace else ""
    parts = (part for part in (name, sub) if part)
    return "/".join([f"{root}{within}/{plural}", *parts])


def call(method: str, where: str, watches: bool = False) -> Call:
    """What a request does."""
    found = OBJECT.match(where)
    if found is None:
        return Call(VERBS.get(method, "get"), "other")
    plural = "/".join(part for part in (found["plural"], found["sub"]) if part)
    reads = "watch" if watches else "get" if found["name"] else "list"
    return Call(VERBS.get(method, reads), plural, found["namespace"])
