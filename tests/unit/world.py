"""A cluster in memory: applies plans, and lets a test say what happens to the Jobs.

It stands for the API server and the kubelet, so that thousands of histories take milliseconds; the same
plan meets the real ones in the tests of the executors.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from builders import NOW, artifact, document, merged, model, resource, result
from lorafinetune.api.codec import decode
from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import REFRESH_ANNOTATION, LoRAFineTune
from lorafinetune.api.status import LoRAFineTuneStatus, StageName
from lorafinetune.contract.arguments import STAGES
from lorafinetune.contract.keys import digest, key, shaping_fields
from lorafinetune.contract.outcome import Progress, StageError
from lorafinetune.core.events import Event
from lorafinetune.core.jobs import Settings
from lorafinetune.core.observed import (
    ATTEMPT_ANNOTATION,
    CHECKPOINT_ANNOTATION,
    GENERATION_ANNOTATION,
    INPUTS_ANNOTATION,
    SHAPE_ANNOTATION,
    STAGE_LABEL,
    TEMPLATE_ANNOTATION,
    Observed,
    ObservedJob,
    Outcome,
)
from lorafinetune.core.plan import Input, Plan, plan
from lorafinetune.core.steps import watched_jobs

SETTINGS = Settings(first_retry_after=timedelta(seconds=10))


class World:
    """One resource, its Jobs and the clock.

    blocked: Jobs that can't be made: what the API server answers, or None where a stranger's Job has the
    name. known: what the operator remembers of that.
    """

    def __init__(self, spec: dict[str, Any] | None = None) -> None:
        self.resource = resource(spec)
        self.jobs: dict[str, ObservedJob] = {}
        self.created: list[dict[str, Any]] = []
        self.events: list[Event] = []
        self.now = NOW
        self.progress: dict[str, Progress] = {}
        self.trained: set[str] = set()
        self.others: dict[str, ObservedJob] = {}
        self.left_behind: dict[str, int] = {}
        self.settings = SETTINGS
        self.blocked: dict[str, str | None] = {}
        self.known: dict[str, str | None] = {}

    @property
    def status(self) -> LoRAFineTuneStatus:
        return self.resource.status or LoRAFineTuneStatus()

    def reconcile(self) -> Plan:
        """One step: plan, then apply as the shell does. A plan whose creation fails is followed by one that
        knows, and one that would create what was not looked at by one that has."""
        watched = watched_jobs(self.resource)
        made = self._decide(watched)
        while not (made.job_names <= watched and self._apply(made)):
            watched |= made.job_names
            made = self._decide(watched)
        for name, patch in made.patch:
            assert patch == {
                "spec": {"ttlSecondsAfterFinished": self.resource.spec.ttl_seconds_after_finished}
            }
            self.jobs[name] = replace(self.jobs[name], has_ttl=True)
        self.resource = self.resource.model_copy(update={"status": made.status})
        self.events += made.events
        return made

    def _decide(self, watched: frozenset[str]) -> Plan:
        taken = frozenset(name for name, answer in self.known.items() if answer is None)
        refused = {name: answer for name, answer in self.known.items() if answer is not None}
        left = {name: pods for name, pods in self.left_behind.items() if name in watched}
        observed = Observed(self.jobs, self.others, left)
        return plan(Input(self.resource, observed, self.settings, self.now, self.progress, taken, refused))

    def _apply(self, made: Plan) -> bool:
        """Whether all could be created."""
        for name in made.delete:
            owner = self.jobs if name in self.jobs else self.others
            owner[name] = replace(owner[name], state="leaving")
        return all(self._create(job) for job in made.create)

    def settle(self) -> LoRAFineTuneStatus:
        """Reconciles, with leaving Jobs gone and time passing, until nothing changes any more."""
        for _ in range(50):
            before = (self.resource, dict(self.jobs))
            self.leave()
            made = self.reconcile()
            if made.check_again:
                self.now += made.check_again
            elif (self.resource, self.jobs) == before:
                return self.status
        raise AssertionError("the plan does not come to rest")

    def leave(self) -> None:
        """Leaving Jobs are gone."""
        self.jobs = {name: job for name, job in self.jobs.items() if job.state != "leaving"}
        self.others = {name: job for name, job in self.others.items() if job.state != "leaving"}

    def trouble(self, reason: Reason | None, message: str = "it does not get on") -> None:
        """The Job that has not ended is in trouble, or (None) no longer."""
        job = next(job for job in self.jobs.values() if job.state in ("queued", "active", "leaving"))
        self.jobs[job.name] = replace(job, trouble=StageError(reason, message) if reason else None)

    def hold(self, why: str) -> None:
        """The queue holds the training, and says why, or (empty) not yet."""
        job = next(job for job in self.jobs.values() if job.stage == "train")
        self.jobs[job.name] = replace(job, state="queued", held=why)

    def let_go(self) -> None:
        """The queue lets the training start."""
        job = next(job for job in self.jobs.values() if job.state == "queued")
        self.jobs[job.name] = replace(job, state="active", held="")

    def vanish(self, pods: int = 0) -> None:
        """The active Job is gone, and so many of its pods are not."""
        job = self.active()
        assert job is not None
        del self.jobs[job.name]
        self.left_behind[job.name] = pods

    def install(self, version: str) -> None:
        """The operator is upgraded or set right: its stages have other images."""
        self.settings = replace(SETTINGS, images=dict.fromkeys(STAGES, f"example.com/stage:{version}"))

    def hand_over(self, **changes: Any) -> None:
        """The Job that has not ended turns out to be that of another resource."""
        job = self.active()
        assert job is not None
        self.others[job.name] = replace(self.jobs.pop(job.name), resource="other", **changes)
        self.created.pop()

    def active(self) -> ObservedJob | None:
        return next((job for job in self.jobs.values() if job.state == "active"), None)

    def end(self, outcome: Outcome | None = None, good: bool = True) -> None:
        """The active Job ends: with its stage's result, with a failure, or with no word (None)."""
        job = self.active()
        assert job is not None
        failed = isinstance(outcome, StageError) or not good
        self.now += timedelta(seconds=1)
        self.jobs[job.name] = replace(
            job, state="failed" if failed else "complete", outcome=outcome, ended=self.now
        )

    def succeed(self) -> None:
        """The active Job ends with the result that a real stage would give."""
        job = self.active()
        assert job is not None
        self.end(self.result(job.stage))

    def fail(self, reason: Reason, message: str = "it went wrong", checkpoint: int | None = None) -> None:
        """checkpoint: step of the last one that the attempt left."""
        self.end(StageError(reason, message, checkpoint=checkpoint))

    def fail_stage(self, stage: StageName, reason: Reason) -> None:
        """The active Job of a stage fails, whatever else is active."""
        job = next(job for job in self.jobs.values() if job.stage == stage and job.state == "active")
        self.now += timedelta(seconds=1)
        outcome = StageError(reason, "it went wrong")
        self.jobs[job.name] = replace(job, state="failed", outcome=outcome, ended=self.now)

    def run_to_end(self) -> LoRAFineTuneStatus:
        """Every stage succeeds until the resource is finished."""
        for _ in range(30):
            self.settle()
            if self.active() is None:
                return self.status
            self.succeed()
        raise AssertionError("the run does not end")

    def edit(self, changes: dict[str, Any]) -> None:
        """A person changes the spec: a new generation."""
        meta = self.resource.metadata
        spec = merged(self.resource.spec.encode(), changes)
        generation = meta.generation + 1
        edited = decode(document(generation=generation, annotations=meta.annotations) | {"spec": spec})
        self.resource = edited.model_copy(update={"status": self.resource.status})

    def annotate(self, name: str, value: str) -> None:
        """A person sets an annotation, which is no new generation."""
        meta = self.resource.metadata
        noted = meta.model_copy(update={"annotations": {**meta.annotations, name: value}})
        self.resource = self.resource.model_copy(update={"metadata": noted})

    def stages_run(self) -> list[str]:
        """Stage of every Job that was ever created."""
        return [job["metadata"]["labels"][STAGE_LABEL] for job in self.created]

    def _create(self, job: dict[str, Any]) -> bool:
        """Whether nothing was in the way."""
        name = job["metadata"]["name"]
        assert name not in {*self.jobs, *self.others}, "a Job is created while one of that name exists"
        assert not self.left_behind.get(name), "a Job is created while a pod of an earlier one is alive"
        if name in self.blocked:
            self.known[name] = self.blocked[name]
            return False
        self.created.append(job)
        self.adopt(job)
        return True

    def adopt(self, job: dict[str, Any]) -> None:
        """The Job is there, whoever created it."""
        metadata = job["metadata"]
        notes = metadata["annotations"]
        self.jobs[metadata["name"]] = ObservedJob(
            name=metadata["name"],
            stage=metadata["labels"][STAGE_LABEL],
            inputs=notes[INPUTS_ANNOTATION],
            shape=notes[SHAPE_ANNOTATION],
            attempt=int(notes[ATTEMPT_ANNOTATION]),
            checkpoint=int(notes[CHECKPOINT_ANNOTATION]),
            generation=int(notes[GENERATION_ANNOTATION]),
            template=notes[TEMPLATE_ANNOTATION],
            refresh=notes[REFRESH_ANNOTATION],
            state="queued" if job["spec"].get("suspend") else "active",
            started=self.now,
            pods=1,
        )

    def result(self, stage: StageName) -> Outcome:
        """Results whose keys follow the spec, as the stages make them."""
        spec = self.resource.spec.encode()
        sources = digest(shaping_fields("download", spec))
        prepared = key("prepare", spec, {"sources": sources})
        training = key("train", spec, {"prepared": prepared})
        if stage == "prepare":
            found = self._trained(training) if training in self.trained else None
            return result("prepare", key=prepared, train_key=training, trained=found)
        if stage == "train":
            self.trained.add(training)
            return self._trained(training)
        if stage == "download":
            return result("download", model=model(digest=sources), datasets=(sources,))
        exported = key("export", spec, {"trained": training})
        return result("export", key=exported, merged=artifact(f"exports/{exported}"))

    def _trained(self, training: str) -> Outcome:
        return result("train", key=training, adapter=artifact(f"trainings/{training}/adapter"))


def status_of(run: LoRAFineTune) -> LoRAFineTuneStatus:
    assert run.status is not None
    return run.status
