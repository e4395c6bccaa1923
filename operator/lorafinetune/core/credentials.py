"""Which credentials a stage gets: those that it needs, and no others."""

from collections.abc import Iterator, Mapping
from typing import Any

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.sources import HUBS
from lorafinetune.api.status import StageName
from lorafinetune.contract.arguments import (
    CREDENTIAL_KEYS,
    TOKEN_KEY,
    TRACKER_KEYS,
    credential_variable,
)


def credentials(stage: StageName, resource: LoRAFineTune) -> Iterator[dict[str, Any]]:
    """The variables of a stage's container that hold them, each by a reference to its Secret."""
    wanted = _wanted(stage, resource)
    for connection in sorted(resource.spec.connections, key=lambda one: one.name):
        if connection.secret_ref:
            for key, required in wanted.get(connection.name, {}).items():
                yield _variable(connection.name, key, connection.secret_ref.name, required)


def _variable(connection: str, key: str, secret: str, required: bool) -> dict[str, Any]:
    reference = {"name": secret, "key": key} | ({} if required else {"optional": True})
    return {"name": credential_variable(connection, key), "valueFrom": {"secretKeyRef": reference}}


def _wanted(stage: StageName, resource: LoRAFineTune) -> Mapping[str, Mapping[str, bool]]:
    """Which keys of which connections, and whether each must be there: the store's always, the sources' for
    the download, the publish targets' for the download too, which proves them, and for the export, the
    trackers' for that alone."""
    spec = resource.spec
    uses = [(spec.storage.uri, spec.storage.connection)]
    if stage == "download":
        uses += [(spec.model.source, spec.model.connection)]
        uses += [(dataset.source, dataset.connection) for dataset in spec.datasets]
    if stage in ("download", "export"):
        uses += [(target.to, target.connection) for target in spec.export.publish]
    trackers = spec.export.trackers or () if stage == "export" else ()
    keys = {tracker.connection: dict(TRACKER_KEYS) for tracker in trackers if tracker.connection}
    for uri, connection in uses:
        if connection:
            wanted = {TOKEN_KEY: True} if uri.startswith(HUBS) else CREDENTIAL_KEYS
            keys.setdefault(connection, {}).update(wanted)
    return keys
