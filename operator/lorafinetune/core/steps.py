"""One stage of one resource: its arguments, the digest of its inputs, and the name of its Job.

A result belongs to the inputs that it was made from. An edit that leaves a stage's inputs alone leaves
its result standing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from lorafinetune.api import API_VERSION, KIND
from lorafinetune.api.pods import TrainResources
from lorafinetune.api.resource import REFRESH_ANNOTATION, LoRAFineTune
from lorafinetune.api.status import LoRAFineTuneStatus, ModelStatus, StageName, StageStatus
from lorafinetune.api.training import Training
from lorafinetune.contract.arguments import (
    STAGES,
    DatasetOrigin,
    DownloadArguments,
    ExportArguments,
    PrepareArguments,
    RunFacts,
    StageArguments,
    TrainArguments,
)
from lorafinetune.contract.keys import Owner, digest, shaping_fields
from lorafinetune.core.training import render

T = TypeVar("T")

MAX_REFRESH: Final = 200

READS_FIELDS_OF: Final[dict[StageName, tuple[Owner, ...]]] = {
    "download": ("download",),
    "prepare": ("prepare", "train"),
    "train": (),
    "export": ("export", "publish"),
}
"""Whose shaping fields are in a stage's inputs. Prepare makes train's key, so it reads train's too;
train's inputs are that key. The export runs again for another target or tracker, and merges nothing again."""


@dataclass(frozen=True)
class Step:
    """What is to be run for one stage, once the stages before it have their results."""

    stage: StageName
    inputs: str
    job: str


def stage_status(status: LoRAFineTuneStatus, stage: StageName) -> StageStatus:
    """The recorded state of a stage; a blank one where nothing is recorded."""
    return next((s for s in status.stages if s.name == stage), StageStatus(name=stage))


def step(stage: StageName, resource: LoRAFineTune, status: LoRAFineTuneStatus) -> Step:
    """The step of a stage whose predecessors' results are in the status."""
    inputs = _inputs(stage, resource, status)
    return Step(stage, inputs, job_name(stage, resource.metadata.name, inputs))


def arguments_of(stage: StageName, resource: LoRAFineTune, status: LoRAFineTuneStatus) -> StageArguments:
    """What the stage is told. Needs a resource that passes the checks."""
    return ARGUMENTS[stage](resource, status)


def owner(resource: LoRAFineTune) -> dict[str, Any]:
    """The reference by which what is made for a resource goes with it."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": resource.metadata.name,
        "uid": resource.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def refresh_of(resource: LoRAFineTune) -> str:
    """Value of the annotation that asks for floating revisions to be resolved anew; its start, where long."""
    return resource.metadata.annotations.get(REFRESH_ANNOTATION, "")[:MAX_REFRESH]


def job_name(stage: StageName, resource_name: str, inputs: str) -> str:
    """At most 63 characters. The training's names neither resource nor attempt: the API server is the
    lock by which two resources with the same key train once."""
    if stage == "train":
        return f"lft-train-{inputs[:16]}"
    own = digest([resource_name, inputs])[:8]
    return f"{resource_name[:30].rstrip('-.')}-{stage}-{own}".replace(".", "-")


def watched_jobs(resource: LoRAFineTune) -> frozenset[str]:
    """Names of the Jobs that the resource had last or may create next, whoever they belong to."""
    status = resource.status or LoRAFineTuneStatus()
    names = {stage.job for stage in status.stages if stage.job}
    for stage in STAGES:
        current = step(stage, resource, status)
        names.add(current.job)
        if not has_result(status, current):
            break
    return frozenset(names)


def has_result(status: LoRAFineTuneStatus, current: Step) -> bool:
    """Whether the result of the step stands in the status."""
    recorded = stage_status(status, current.stage)
    return recorded.state == "Complete" and recorded.inputs == current.inputs


def shape(stage: StageName, resource: LoRAFineTune) -> str:
    """Digest of every field that shapes the output of a stage or of one before it: a running Job with
    another shape works for a spec that is gone."""
    until = STAGES.index(stage) + 1
    spec = resource.spec.encode()
    owners: list[Owner] = [*STAGES[:until], *(("publish",) if stage == "export" else ())]
    return digest([shaping_fields(owner, spec) for owner in owners])


def _inputs(stage: StageName, resource: LoRAFineTune, status: LoRAFineTuneStatus) -> str:
    if stage == "train":
        return _need(stage_status(status, "train").key)
    spec = resource.spec.encode()
    return digest(
        {
            "stage": stage,
            "fields": [shaping_fields(owner, spec) for owner in READS_FIELDS_OF[stage]],
            "reads": _reads(stage, resource, status),
        }
    )


def _reads(stage: StageName, resource: LoRAFineTune, status: LoRAFineTuneStatus) -> list[str]:
    match stage:
        case "download":
            return [refresh_of(resource)]
        case "prepare":
            return [_model(status).digest, *status.datasets]
        case _:
            return [_need(stage_status(status, "train").key)]


def _download(resource: LoRAFineTune, _: LoRAFineTuneStatus) -> StageArguments:
    spec = resource.spec
    return DownloadArguments(
        storage=spec.storage,
        connections=spec.connections,
        model=spec.model,
        datasets=tuple(
            DatasetOrigin(source=d.source, revision=d.revision, connection=d.connection)
            for d in spec.datasets
        ),
        refresh=refresh_of(resource),
        publish=spec.export.publish,
    )


def _prepare(resource: LoRAFineTune, status: LoRAFineTuneStatus) -> StageArguments:
    spec = resource.spec
    return PrepareArguments(
        storage=spec.storage,
        connections=spec.connections,
        model=_model(status),
        template=spec.model.template,
        datasets=spec.datasets,
        dataset_keys=status.datasets,
        training=_ungated(spec.training),
        config=render(spec),
        gpu=spec.resources.train.gpu,
        nodes=spec.resources.train.nodes if spec.resources.train.nodes > 1 else None,
        sharding=_sharding(spec.resources.train),
        scratch=spec.resources.train.scratch,
        publish=spec.export.publish,
    )


def _train(resource: LoRAFineTune, status: LoRAFineTuneStatus) -> StageArguments:
    spec = resource.spec
    return TrainArguments(
        storage=spec.storage,
        connections=spec.connections,
        model=_model(status),
        key=_need(stage_status(status, "train").key),
        prepared=_need(stage_status(status, "prepare").key),
        training=_ungated(spec.training),
        config=render(spec),
        gpus=spec.resources.train.gpu.count,
        sharding=_sharding(spec.resources.train),
    )


def _export(resource: LoRAFineTune, status: LoRAFineTuneStatus) -> StageArguments:
    spec = resource.spec
    return ExportArguments(
        storage=spec.storage,
        connections=spec.connections,
        model=_model(status),
        trained=_need(stage_status(status, "train").key),
        export=spec.export.model_copy(update={"config_map": None}),
        run=_facts(resource, status),
    )


def _facts(resource: LoRAFineTune, status: LoRAFineTuneStatus) -> RunFacts:
    training = resource.spec.training
    passing = {"job": None, "inputs": None, "progress": None, "message": None}
    done = (stage_status(status, stage) for stage in STAGES if stage != "export")
    return RunFacts(
        name=resource.metadata.name,
        namespace=resource.metadata.namespace,
        objective=training.objective,
        takes_best=training.checkpoint.select == "best",
        stages=tuple(stage.model_copy(update=passing) for stage in done),
    )


ARGUMENTS: Final[dict[StageName, Callable[[LoRAFineTune, LoRAFineTuneStatus], StageArguments]]] = {
    "download": _download,
    "prepare": _prepare,
    "train": _train,
    "export": _export,
}


def _sharding(resources: TrainResources) -> Literal["fsdp2"] | None:
    """Absent where it is as before there was a choice, so that Jobs are, too."""
    return None if resources.sharding == "none" else resources.sharding


def _ungated(training: Training) -> Training:
    """The gate stands behind the training: an edit of it is none of a Job that runs or waits."""
    if training.evaluation is None:
        return training
    return training.model_copy(update={"evaluation": training.evaluation.model_copy(update={"gate": None})})


def _model(status: LoRAFineTuneStatus) -> ModelStatus:
    return _need(status.model)


def _need(value: T | None) -> T:
    if value is None:
        raise ValueError("a stage was planned before the result that it reads")
    return value
