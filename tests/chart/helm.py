"""helm as people use it: a chart and values in, objects or a complaint out."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cluster.build import binary
from cluster.process import run
from cluster.sources import SOURCES

CHARTS = Path(__file__).parents[2] / "charts"
OPERATOR, TENANT = "lorafinetune", "lorafinetune-tenant"
RELEASE, NAMESPACE = "lorafinetune", "lorafinetune-system"
STORE = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "storage"}}}]
NEEDED: Mapping[str, dict[str, Any]] = {OPERATOR: {}, TENANT: {"networkPolicy": {"store": {"to": STORE}}}}
Object = dict[str, Any]
Values = Mapping[str, Any]


def helm(*arguments: str) -> str:
    """What helm prints. A refusal is a CommandError with its message."""
    return run(str(binary("helm")), *arguments, name=f"helm {arguments[0]}")


def given(values: Values) -> list[str]:
    """Values as arguments: what is not among them is the chart's default."""
    return [f"--set-json={name}={json.dumps(value)}" for name, value in values.items()]


def render(
    chart: str, values: Values | None = None, *, release: str = RELEASE, namespace: str = NAMESPACE
) -> list[Object]:
    """The objects that a chart of ours stands for, with the least of values that it needs by default."""
    return _rendered(chart, release, namespace, *given(NEEDED[chart] if values is None else values))


@functools.cache
def _rendered(chart: str, release: str, namespace: str, *arguments: str) -> list[Object]:
    version = SOURCES["kube-apiserver"].version()
    where = (f"--namespace={namespace}", f"--kube-version={version}")
    text = helm("template", release, str(CHARTS / chart), *where, *arguments)
    return [found for found in yaml.load_all(text, yaml.CSafeLoader) if found]


def at(objects: list[Object], place: str) -> Any:
    """What stands at `Kind/name: path.to.0.field`; None if there is no such object or field."""
    identity, _, path = place.partition(": ")
    found: Any = next((one for one in objects if name_of(one) == identity), None)
    for step in path.split(".") if path else ():
        if isinstance(found, list):
            found = found[int(step)] if int(step) < len(found) else None
        else:
            found = (found or {}).get(step.replace("~", "."))
    return found


def name_of(found: Object) -> str:
    return f"{found['kind']}/{found['metadata']['name']}"


def rules(objects: list[Object]) -> list[tuple[str, Object]]:
    """Every rule of every role, with the role's name."""
    roles = [one for one in objects if one["kind"] in ("Role", "ClusterRole")]
    return [(name_of(role), rule) for role in roles for rule in role["rules"]]
