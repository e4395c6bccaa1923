"""Keeps the ConfigMap of a run that has ended, where its spec asks for one.

It is not watched: what somebody else does to it is mended at the next reconciliation, some ten minutes later.
"""

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Final

from lorafinetune.api.artifacts import Artifacts, ConfigMapStatus
from lorafinetune.api.resource import LoRAFineTune, Metadata
from lorafinetune.api.status import LoRAFineTuneStatus
from lorafinetune.core.events import Event
from lorafinetune.core.handover import config_map, config_map_name
from lorafinetune.core.plan import Plan, is_finished
from lorafinetune.shell.client import ApiError, Client
from lorafinetune.shell.paths import path
from lorafinetune.shell.projections import Object, controller
from lorafinetune.shell.writer import CONFLICT, NOT_FOUND, REFUSALS, about

log = logging.getLogger(__name__)

TAKEN: Final = (
    "the ConfigMap {} is there, and is not of this run: it is left alone. Remove it, or give another name in "
    "spec.export.configMap.name."
)
ANEW: Final = timedelta(seconds=30)
"""Until it is tried again where a person has to do something."""
LONGEST: Final = 4096


class Handover:
    """Writes ConfigMaps. Methods raise ApiError for what the queue is to repeat."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def completed(self, resource: LoRAFineTune, plan: Plan) -> Plan:
        """The plan with what the status says of the ConfigMap: of a run whose end is in its status."""
        before = plan.status.config_map
        if (
            not is_finished(resource)
            or resource.metadata.deletion_timestamp
            or not (before or config_map_name(resource))
        ):
            return plan
        after = await self._kept(resource, plan.status)
        again = ANEW if after and after.message else plan.check_again
        status = plan.status.model_copy(update={"config_map": after})
        return replace(plan, status=status, events=plan.events + _news(before, after), check_again=again)

    async def _kept(self, resource: LoRAFineTune, status: LoRAFineTuneStatus) -> ConfigMapStatus | None:
        of, desired, name = resource.metadata, config_map(resource), config_map_name(resource)
        known = status.config_map or ConfigMapStatus()
        if known.name and known.name != name:
            await self._remove(of, known.name)
            known = ConfigMapStatus()
        if desired is None:
            is_there = name and (known.name or known.outputs)
            return known.model_copy(update={"message": None}) if is_there else None
        fault = await self._write(of, desired)
        if fault:
            return ConfigMapStatus(message=fault[:LONGEST], outputs=known.outputs)
        return ConfigMapStatus(name=name, outputs=(status.artifacts or Artifacts()).uris)

    async def _write(self, of: Metadata, desired: Object) -> str:
        """Makes or changes it. Returns why that can't be done; empty: it is there."""
        name = desired["metadata"]["name"]
        where = path("configmaps", of.namespace, name)
        try:
            existing = await self._there(where)
            if existing is None:
                await self._client.create(path("configmaps", of.namespace), desired)
                log.info("created ConfigMap %s", name, extra=about(of))
            elif not _is_of(existing, of):
                return TAKEN.format(name)
            elif existing.get("data") != desired["data"]:
                await self._client.patch(where, _change(existing, desired))
                log.info("changed ConfigMap %s", name, extra=about(of))
        except ApiError as problem:
            if problem.code not in REFUSALS:
                raise
            return f"the ConfigMap {name} can't be written: {problem.message}"
        return ""

    async def _remove(self, of: Metadata, name: str) -> None:
        where = path("configmaps", of.namespace, name)
        existing = await self._there(where)
        if existing is None or not _is_of(existing, of):
            return
        try:
            await self._client.delete(where, existing["metadata"]["uid"])
        except ApiError as problem:
            if problem.code not in (NOT_FOUND, CONFLICT):
                raise
        log.info("removed ConfigMap %s", name, extra=about(of))

    async def _there(self, where: str) -> Object | None:
        try:
            return await self._client.get(where)
        except ApiError as problem:
            if problem.code != NOT_FOUND:
                raise
            return None


def _is_of(existing: Object, of: Metadata) -> bool:
    return (controller(existing) or {}).get("uid") == of.uid


def _change(existing: Object, desired: Object) -> Object:
    """A patch that leaves nothing else in it, and is for this object alone."""
    gone = dict.fromkeys(existing.get("data") or {})
    uid = existing["metadata"]["uid"]
    return {"metadata": {"uid": uid}, "data": {**gone, **desired["data"]}}


def _news(before: ConfigMapStatus | None, after: ConfigMapStatus | None) -> tuple[Event, ...]:
    """What changed."""
    if after is None or (before and (after.name, after.message) == (before.name, before.message)):
        return ()
    if after.message:
        return (Event("Warning", "ConfigMapRefused", after.message),)
    return (Event("Normal", "ConfigMapWritten", f"the ConfigMap {after.name} says where the outputs are"),)
