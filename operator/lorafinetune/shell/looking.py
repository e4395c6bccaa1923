"""One look at one resource: gather what is known, let the plan decide, and carry it out."""

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
from lorafinetune.shell import undecodable
from lorafinetune.shell.client import ApiError
from lorafinetune.shell.handover import Handover
from lorafinetune.shell.hearing import LastWords
from lorafinetune.shell.index import Index, Key
from lorafinetune.shell.interest import Interest
from lorafinetune.shell.progress import ProgressMemory
from lorafinetune.shell.reading import read
from lorafinetune.shell.refusals import Refusals
from lorafinetune.shell.trimming import Object
from lorafinetune.shell.warnings import Warnings
from lorafinetune.shell.writing import CONFLICT, Writer, about

log = logging.getLogger(__name__)

MOST_PLANS: Final = 4
"""In one look: a plan whose creation fails for good is followed by one that knows."""
REST: Final = 1.0
"""Seconds after a write until a look that should find nothing to do."""

Changed = Callable[[LoRAFineTune, LoRAFineTuneStatus], None]
"""Is told of each status that was written: the resource as it was, and the new status."""


@dataclass(frozen=True)
class Known:
    """Everything that a look reads."""

    index: Index
    warnings: Warnings
    progress: ProgressMemory
    refusals: Refusals
    interest: Interest
    settings: Callable[[], Settings]
    now: Callable[[], datetime]


@dataclass(frozen=True)
class Looker:
    """Looks at resources. changed: is told of what the status says anew."""

    known: Known
    writer: Writer
    changed: Changed
    words: LastWords
    handover: Handover

    async def look(self, key: Key) -> float | None:
        """Returns after how many seconds to look again, at the latest; None: it is gone. Raises ApiError."""
        stored = self.known.index.resources.get(*key)
        if stored is None:
            self.known.interest.forget(key)
            return None
        try:
            resource = read(stored)
        except InvalidResourceError as error:
            await self._refuse(stored, error)
            return inf
        return await self._follow(resource, key)

    async def _follow(self, resource: LoRAFineTune, key: Key) -> float:
        known = self.known
        of = resource.metadata
        made = await self.handover.completed(resource, await self._create(resource, key))
        differs = made.status != (resource.status or LoRAFineTuneStatus())
        if differs:
            await self.writer.write_status(of, made.status.encode())
            self.changed(resource, made.status)
        for name, patch in made.patch:
            await self.writer.patch_job(of, name, patch)
        for event in made.events:
            await self.writer.tell(of, event, known.now())
        return self._pause(resource, made, differs or bool(made.create or made.delete or made.patch))

    async def _create(self, resource: LoRAFineTune, key: Key) -> Plan:
        """Deletes and creates. A plan whose creation was refused is followed by one that knows it, and one
        that would create what was not looked at by one that has."""
        names = frozenset() if is_finished(resource) else watched_jobs(resource)
        for _ in range(MOST_PLANS):
            self.known.interest.set(key, names)
            made = plan(await self._hear(self._input(resource, names), names))
            if made.wanted <= names and await self._apply(resource, made):
                return made
            names |= made.wanted
        raise ApiError(CONFLICT, "NotCreated", "a Job is neither there nor can it be created")

    async def _apply(self, resource: LoRAFineTune, made: Plan) -> bool:
        """Whether all could be created."""
        for name in made.delete:
            await self.writer.delete_job(resource.metadata, name)
        return all([await self.writer.create_job(resource.metadata, job) for job in made.create])

    async def _hear(self, given: Input, watched: frozenset[str]) -> Input:
        """The same, or what is known once the Pods of Jobs that ended without a word were read."""
        resource, jobs = given.resource, given.observed.jobs.values()
        if is_finished(resource):
            return given
        silent = [job.name for job in jobs if job.wordless]
        heard = [await self.words.hear(resource.metadata.namespace, name) for name in silent]
        return self._input(resource, watched) if any(heard) else given

    def _input(self, resource: LoRAFineTune, watched: frozenset[str]) -> Input:
        known, namespace = self.known, resource.metadata.namespace
        jobs = self._jobs(resource, watched)
        names = sorted({job["metadata"]["name"] for job in jobs} | watched)
        pods = [pod for name in names for pod in known.index.pods.group(namespace, name)]
        events = [event for name in names for event in known.warnings.of(namespace, name)]
        told = {name: known.progress.shown((namespace, name)) for name in names}
        refusals = known.refusals.of(namespace, names)
        now = known.now()
        return Input(
            resource=resource,
            observed=observe(resource.metadata.uid, jobs, pods, events, now),
            settings=known.settings(),
            now=now,
            progress={name: progress for name, progress in told.items() if progress},
            taken=refusals.taken,
            refused=refusals.refused,
        )

    def _jobs(self, resource: LoRAFineTune, watched: frozenset[str]) -> list[dict[str, Any]]:
        """Those that the resource controls, and those of others whose names it may want."""
        namespace, table = resource.metadata.namespace, self.known.index.jobs
        own = table.group(namespace, resource.metadata.uid)
        missing = watched - {job["metadata"]["name"] for job in own}
        return own + [other for name in sorted(missing) if (other := table.get(namespace, name))]

    def _pause(self, resource: LoRAFineTune, made: Plan, wrote: bool) -> float:
        namespace = resource.metadata.namespace
        jobs = [stage.job for stage in made.status.stages if stage.job]
        pauses = [self.known.progress.pending((namespace, job)) for job in jobs]
        pauses.append(made.check_again.total_seconds() if made.check_again else None)
        pauses.append(REST if wrote else None)
        return min((pause for pause in pauses if pause is not None), default=inf)

    async def _refuse(self, stored: Object, error: InvalidResourceError) -> None:
        of = Metadata.decode(stored["metadata"])
        status = undecodable.status_of(stored, error, self.known.now())
        if status == stored.get("status"):
            return
        await self.writer.write_status(of, status)
        log.warning("can't be read: %s", status["failure"]["message"], extra=about(of))
        await self.writer.tell(of, undecodable.event_of(status), self.known.now())
