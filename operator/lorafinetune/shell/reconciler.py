"""One reconciliation of one resource: gather what is known, let the plan decide, and carry it out."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Any, Final

from lorafinetune.api.codec import InvalidResourceError
from lorafinetune.api.resource import LoRAFineTune, Metadata
from lorafinetune.api.status import LoRAFineTuneStatus
from lorafinetune.core.jobs import Settings
from lorafinetune.core.observed import observe
from lorafinetune.core.plan import Input, Plan, is_finished, plan
from lorafinetune.core.steps import watched_jobs
from lorafinetune.shell import invalid_resource
from lorafinetune.shell.client import ApiError
from lorafinetune.shell.handover import Handover
from lorafinetune.shell.index import Index, Key
from lorafinetune.shell.interest import Interest
from lorafinetune.shell.pod_refresher import PodRefresher
from lorafinetune.shell.progress import ProgressMemory
from lorafinetune.shell.projections import Object
from lorafinetune.shell.reader import read
from lorafinetune.shell.refusals import RefusedJobs
from lorafinetune.shell.warnings import Warnings
from lorafinetune.shell.writer import CONFLICT, Writer, about

log = logging.getLogger(__name__)

MOST_PLANS: Final = 4
"""In one reconciliation: a plan whose creation fails for good is followed by one that knows."""
REST: Final = 1.0
"""Seconds after a write until a reconciliation that should find nothing to do."""

Changed = Callable[[LoRAFineTune, LoRAFineTuneStatus], None]
"""Is called for each status that was written: the resource as it was, and the new status."""


@dataclass(frozen=True)
class Observations:
    """Everything that a reconciliation reads."""

    index: Index
    warnings: Warnings
    progress: ProgressMemory
    refusals: RefusedJobs
    interest: Interest
    settings: Callable[[], Settings]
    now: Callable[[], datetime]


@dataclass(frozen=True)
class Reconciler:
    """Reconciles resources. changed: is called with what the status says anew."""

    observations: Observations
    writer: Writer
    changed: Changed
    pods: PodRefresher
    handover: Handover

    async def reconcile(self, key: Key) -> float | None:
        """Returns after how many seconds to do so again, at the latest; None: it is gone. Raises ApiError."""
        stored = self.observations.index.resources.get(*key)
        if stored is None:
            self.observations.interest.forget(key)
            return None
        try:
            resource = read(stored)
        except InvalidResourceError as error:
            await self._refuse(stored, error)
            return inf
        return await self._reconcile(resource, key)

    async def _reconcile(self, resource: LoRAFineTune, key: Key) -> float:
        observations = self.observations
        of = resource.metadata
        planned = await self.handover.completed(resource, await self._create(resource, key))
        differs = planned.status != (resource.status or LoRAFineTuneStatus())
        if differs:
            await self.writer.write_status(of, planned.status.encode())
            self.changed(resource, planned.status)
        for name, patch in planned.patch:
            await self.writer.patch_job(of, name, patch)
        for event in planned.events:
            await self.writer.tell(of, event, observations.now())
        return self._pause(
            resource, planned, differs or bool(planned.create or planned.delete or planned.patch)
        )

    async def _create(self, resource: LoRAFineTune, key: Key) -> Plan:
        """Deletes and creates. A plan whose creation was refused is followed by one that knows it, and one
        that would create what was not watched by one that has."""
        names = frozenset() if is_finished(resource) else watched_jobs(resource)
        for _ in range(MOST_PLANS):
            self.observations.interest.set(key, names)
            planned = plan(await self._with_final_pods(self._input(resource, names), names))
            if planned.job_names <= names and await self._apply(resource, planned):
                return planned
            names |= planned.job_names
        raise ApiError(CONFLICT, "NotCreated", "a Job is neither there nor can it be created")

    async def _apply(self, resource: LoRAFineTune, planned: Plan) -> bool:
        """Whether all could be created."""
        for name in planned.delete:
            await self.writer.delete_job(resource.metadata, name)
        return all([await self.writer.create_job(resource.metadata, job) for job in planned.create])

    async def _with_final_pods(self, inputs: Input, watched: frozenset[str]) -> Input:
        """The same, or what is known once the Pods of Jobs that ended without a word were read."""
        resource, jobs = inputs.resource, inputs.observed.jobs.values()
        if is_finished(resource):
            return inputs
        silent = [job.name for job in jobs if job.wordless]
        refreshed = [await self.pods.refresh(resource.metadata.namespace, name) for name in silent]
        return self._input(resource, watched) if any(refreshed) else inputs

    def _input(self, resource: LoRAFineTune, watched: frozenset[str]) -> Input:
        observations, namespace = self.observations, resource.metadata.namespace
        jobs = self._jobs(resource, watched)
        names = sorted({job["metadata"]["name"] for job in jobs} | watched)
        pods = [pod for name in names for pod in observations.index.pods.group(namespace, name)]
        events = [event for name in names for event in observations.warnings.of(namespace, name)]
        progress_of = {name: observations.progress.shown((namespace, name)) for name in names}
        refusals = observations.refusals.of(namespace, names)
        now = observations.now()
        return Input(
            resource=resource,
            observed=observe(resource.metadata.uid, jobs, pods, events, now),
            settings=observations.settings(),
            now=now,
            progress={name: progress for name, progress in progress_of.items() if progress},
            taken=refusals.taken,
            refused=refusals.refused,
        )

    def _jobs(self, resource: LoRAFineTune, watched: frozenset[str]) -> list[dict[str, Any]]:
        """Those that the resource controls, and those of others whose names it may want."""
        namespace, table = resource.metadata.namespace, self.observations.index.jobs
        own = table.group(namespace, resource.metadata.uid)
        missing = watched - {job["metadata"]["name"] for job in own}
        return own + [other for name in sorted(missing) if (other := table.get(namespace, name))]

    def _pause(self, resource: LoRAFineTune, planned: Plan, wrote: bool) -> float:
        namespace = resource.metadata.namespace
        jobs = [stage.job for stage in planned.status.stages if stage.job]
        pauses = [self.observations.progress.pending((namespace, job)) for job in jobs]
        pauses.append(planned.check_again.total_seconds() if planned.check_again else None)
        pauses.append(REST if wrote else None)
        return min((pause for pause in pauses if pause is not None), default=inf)

    async def _refuse(self, stored: Object, error: InvalidResourceError) -> None:
        of = Metadata.decode(stored["metadata"])
        status = invalid_resource.status_of(stored, error, self.observations.now())
        if status == stored.get("status"):
            return
        await self.writer.write_status(of, status)
        log.warning("can't be read: %s", status["failure"]["message"], extra=about(of))
        await self.writer.tell(of, invalid_resource.event_of(status), self.observations.now())
