"""Carries out a plan: deletes, creates, writes the status, patches and tells, in this order.

Every answer enters the index before anything else is planned.
"""

import hashlib
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from lorafinetune.api import API_VERSION, KIND, PLURAL
from lorafinetune.api.resource import Metadata
from lorafinetune.contract.times import rfc3339
from lorafinetune.core.events import Event
from lorafinetune.core.nodes import service
from lorafinetune.core.observed import STAGE_LABEL, TEMPLATE_ANNOTATION
from lorafinetune.shell.client import ApiError, Client
from lorafinetune.shell.index import Index
from lorafinetune.shell.paths import path
from lorafinetune.shell.projections import Object, controller
from lorafinetune.shell.projections import job as trimmed_job
from lorafinetune.shell.refusals import RefusedJobs

log = logging.getLogger(__name__)

ABOUT: Final = ("namespace", "resource")
BAD_REQUEST, FORBIDDEN, NOT_FOUND, CONFLICT, INVALID = 400, 403, 404, 409, 422
REFUSALS: Final = (BAD_REQUEST, FORBIDDEN, INVALID)
"""Of a creation. A webhook that denies without a code of its own is answered with 400."""
LONGEST_NOTE: Final = 1024


class Writer:
    """Writes for one resource after the other. Methods raise ApiError for what the queue is to repeat."""

    def __init__(self, client: Client, index: Index, refusals: RefusedJobs) -> None:
        self._client = client
        self._index = index
        self._refusals = refusals

    async def delete_job(self, of: Metadata, name: str) -> None:
        """Asks a Job to leave. One that is gone, or another of the name, is none of our business."""
        held = self._index.jobs.get(of.namespace, name)
        if not (uid := self._uid(of, name)):
            return
        try:
            answer = await self._client.delete(path("jobs", of.namespace, name), uid)
        except ApiError as problem:
            await self._forget(of, name, uid, problem)
            return
        if answer.get("kind") == "Job":
            self._index.jobs.put(answer)
        log.info("deleted Job %s", name, extra=about(of, held))

    async def _is_there(self, of: Metadata, name: str, uid: str) -> bool:
        """Whether it is the same Job still: a conflict may mean another of the name, or just the moment."""
        try:
            existing = await self._client.get(path("jobs", of.namespace, name))
        except ApiError as problem:
            if problem.code != NOT_FOUND:
                raise
            return False
        return bool(existing["metadata"]["uid"] == uid)

    async def create_job(self, of: Metadata, job: Mapping[str, Any]) -> bool:
        """Creates a Job. False: something kept it from being made, which the next plan must know."""
        name = job["metadata"]["name"]
        if not await self._can_meet(of, job):
            return False
        try:
            answer = await self._client.create(path("jobs", of.namespace), job)
        except ApiError as problem:
            if problem.code == CONFLICT and problem.reason == "AlreadyExists":
                return await self._find_job(of, job)
            return self._is_refused(of, name, problem)
        self._index.jobs.put(answer)
        log.info("created Job %s", name, extra=about(of, job))
        return True

    def _is_refused(self, of: Metadata, name: str, problem: ApiError) -> bool:
        """Notes why a Job can't be made, and returns False. Raises what may pass by itself."""
        if problem.code not in REFUSALS:
            raise problem
        self._refusals.add((of.namespace, name), problem.message)
        log.warning("Job %s was refused: %s", name, problem.message, extra=about(of))
        return False

    async def _can_meet(self, of: Metadata, job: Mapping[str, Any]) -> bool:
        """Whether the pods of a Job find each other: of several nodes they do by a Service, made here."""
        if (desired := service(dict(job))) is None:
            return True
        name = desired["metadata"]["name"]
        try:
            await self._client.create(path("services", of.namespace), desired)
        except ApiError as problem:
            if (problem.code, problem.reason) != (CONFLICT, "AlreadyExists"):
                return self._is_refused(of, job["metadata"]["name"], problem)
            existing = await self._client.get(path("services", of.namespace, name))
            if (controller(existing) or {}).get("uid") != of.uid:
                foreign = ApiError(FORBIDDEN, "Foreign", f"the Service {name} is there, and not of this run")
                return self._is_refused(of, job["metadata"]["name"], foreign)
        return True

    async def _find_job(self, of: Metadata, desired: Mapping[str, Any]) -> bool:
        """Looks at the Job that has the name already: it may be the wanted one."""
        name = desired["metadata"]["name"]
        existing = await self._client.get(path("jobs", of.namespace, name))
        self._index.jobs.put(existing)
        if trimmed_job(existing) is None:
            self._refusals.add((of.namespace, name), None)
            log.warning("the name of Job %s is taken", name, extra=about(of, desired))
        return _is_same(existing, desired)

    async def write_status(self, of: Metadata, status: Mapping[str, Any]) -> None:
        """Replaces the status, unless the resource has changed: then the newest enters the index."""
        where = path(PLURAL, of.namespace, of.name)
        identity = {"name": of.name, "namespace": of.namespace, "uid": of.uid}
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": identity | {"resourceVersion": of.resource_version},
            "status": status,
        }
        try:
            answer = await self._client.replace(f"{where}/status", body)
        except ApiError as problem:
            if problem.code == NOT_FOUND:
                self._index.resources.drop(of.namespace, of.name, of.uid)
            elif problem.code == CONFLICT:
                self._index.resources.put(await self._client.get(where))
            raise
        self._index.resources.put(answer)

    async def patch_job(self, of: Metadata, name: str, patch: Mapping[str, Any]) -> None:
        """Patches a Job. One that is gone, or another of the name, is none of our business: the API server
        refuses a patch that would change a uid."""
        if not (uid := self._uid(of, name)):
            return
        try:
            answer = await self._client.patch(
                path("jobs", of.namespace, name), {"metadata": {"uid": uid}, **patch}
            )
        except ApiError as problem:
            await self._forget(of, name, uid, problem)
            return
        self._index.jobs.put(answer)

    def _uid(self, of: Metadata, name: str) -> str:
        held = self._index.jobs.get(of.namespace, name)
        return str(held["metadata"]["uid"]) if held else ""

    async def _forget(self, of: Metadata, name: str, uid: str, problem: ApiError) -> None:
        """A Job that is not there any more leaves the index; anything else is raised."""
        if problem.code not in (NOT_FOUND, CONFLICT, INVALID) or await self._is_there(of, name, uid):
            raise problem
        self._index.jobs.drop(of.namespace, name, uid)

    async def tell(self, of: Metadata, event: Event, now: datetime) -> None:
        """Logs what happened, and puts an Event on the resource. One that can't be told is lost: the status
        says it too."""
        log.info("%s: %s", event.reason, event.message, extra=about(of))
        try:
            await self._client.create(path("events", of.namespace), _event(of, event, now))
        except ApiError as problem:
            if problem.code != CONFLICT:
                log.warning("an Event was lost: %s: %s", event.reason, problem, extra=about(of))


def about(of: Metadata, job: Object | None = None) -> dict[str, str]:
    """Which resource, and with a Job which stage of it, a line of the log is about."""
    labels = (job or {}).get("metadata", {}).get("labels", {})
    return dict(zip(ABOUT, (of.namespace, of.name), strict=True)) | {
        "uid": of.uid,
        "stage": labels.get(STAGE_LABEL, ""),
    }


def _is_same(existing: Object, desired: Object) -> bool:
    notes = existing["metadata"].get("annotations") or {}
    template = desired["metadata"]["annotations"][TEMPLATE_ANNOTATION]
    owner, desired_owner = controller(existing) or {}, controller(desired) or {}
    leaving = existing["metadata"].get("deletionTimestamp")
    same = (owner.get("uid"), notes.get(TEMPLATE_ANNOTATION)) == (desired_owner.get("uid"), template)
    return same and not leaving


def _event(of: Metadata, event: Event, now: datetime) -> dict[str, Any]:
    """The name is made from what is said, and when: a repeated request says it once."""
    said = "\0".join((of.uid, of.resource_version, event.type, event.reason, event.message))
    time = rfc3339(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{of.name}.{hashlib.sha256(said.encode()).hexdigest()[:16]}",
            "namespace": of.namespace,
        },
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": of.namespace,
            "name": of.name,
            "uid": of.uid,
            "resourceVersion": of.resource_version,
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:LONGEST_NOTE],
        "source": {"component": "lorafinetune"},
        "reportingComponent": "lorafinetune",
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
