"""One step of one resource → the Job object that runs it.

The local executor runs the same object as a child process, so nothing about a stage is said twice.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from lorafinetune.api.pods import StageResources
from lorafinetune.api.quantity import amount
from lorafinetune.api.resource import REFRESH_ANNOTATION, LoRAFineTune
from lorafinetune.api.status import StageName
from lorafinetune.contract.arguments import (
    ARGUMENTS_VARIABLE,
    PROGRESS_CA_VARIABLE,
    PROGRESS_TOKEN_VARIABLE,
    PROGRESS_URL_VARIABLE,
    WORKDIR_VARIABLE,
    StageArguments,
)
from lorafinetune.contract.https import HTTPS, HTTPS_VARIABLE, NOWHERE, HttpsSources
from lorafinetune.contract.keys import digest
from lorafinetune.contract.loglines import LOG_ABOUT, LOG_FORMAT, Form
from lorafinetune.core.credentials import credentials
from lorafinetune.core.nodes import spread
from lorafinetune.core.observed import (
    ATTEMPT_ANNOTATION,
    CHECKPOINT_ANNOTATION,
    GENERATION_ANNOTATION,
    INPUTS_ANNOTATION,
    NAME_LABEL,
    OURS,
    SHAPE_ANNOTATION,
    STAGE_LABEL,
    TEMPLATE_ANNOTATION,
)
from lorafinetune.core.steps import Step, owner, refresh_of, shape

Object = dict[str, Any]

SCRATCH: Final = "/scratch"
QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
OUTSIDE_LABEL: Final = "lorafinetune.dev/outside"
"""Of pods that need more than the store: hubs, servers of datasets, trackers; for NetworkPolicies."""
PROGRESS_AUDIENCE: Final = "lorafinetune-progress"
TOKEN_FOLDER: Final = "/var/run/secrets/lorafinetune.dev"  # noqa: S105 - a path
TOKEN_SECONDS: Final = 3600
NOT_THE_NODES: Final = {"AWS_EC2_METADATA_DISABLED": "true"}
"""Where a connection names no Secret, a pod is who its service account is, or nobody: never who its node is,
whose rights are for the cluster."""


@dataclass(frozen=True)
class Receiver:
    """Where stages post their progress. url: https. ca: certificates as PEM."""

    url: str
    ca: str


@dataclass(frozen=True)
class Settings:
    """What the installation decides. images: by stage. local: the plan is run by `lorafinetune run`. https:
    where datasets may be fetched from."""

    images: Mapping[StageName, str] = field(default_factory=dict)
    local: bool = False
    https: HttpsSources = NOWHERE
    receiver: Receiver | None = None
    log_format: Form = "text"
    first_retry_after: timedelta = timedelta(seconds=10)
    longest_retry_after: timedelta = timedelta(minutes=10)


def job(
    step: Step,
    arguments: StageArguments,
    resource: LoRAFineTune,
    attempt: int,
    settings: Settings,
    checkpoint: int = 0,
) -> Object:
    """The Job of a step's attempt. The digest of what an edit could change stands in an annotation.

    checkpoint: step of the last one that attempts before it left; 0: none.
    """
    template = _pod_template(step, arguments, resource, settings)
    labels = _labels(step.stage, resource) | _queue_label(step.stage, resource)
    spec = spread(_job_spec(step.stage, resource) | {"template": template}, step.stage, step.job, resource)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": step.job,
            "namespace": resource.metadata.namespace,
            "labels": labels,
            "annotations": {
                **_annotations(step, resource, attempt, checkpoint),
                TEMPLATE_ANNOTATION: digest([labels, spec]),
            },
            "ownerReferences": [owner(resource)],
        },
        "spec": spec,
    }


def _annotations(step: Step, resource: LoRAFineTune, attempt: int, checkpoint: int) -> dict[str, str]:
    """What tells a later plan whether the Job is still the one that is wanted."""
    return {
        INPUTS_ANNOTATION: step.inputs,
        SHAPE_ANNOTATION: shape(step.stage, resource),
        ATTEMPT_ANNOTATION: str(attempt),
        CHECKPOINT_ANNOTATION: str(checkpoint),
        GENERATION_ANNOTATION: str(resource.metadata.generation),
        REFRESH_ANNOTATION: refresh_of(resource),
    }


def _job_spec(stage: StageName, resource: LoRAFineTune) -> Object:
    return {
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
            ]
        },
        **_given(
            activeDeadlineSeconds=resource.spec.active_deadline_seconds,
            suspend=bool(_queue_label(stage, resource)),
        ),
    }


def _labels(stage: StageName, resource: LoRAFineTune) -> dict[str, str]:
    return {
        **dict([OURS]),
        "app.kubernetes.io/component": stage,
        NAME_LABEL: resource.metadata.name,
        STAGE_LABEL: stage,
    }


def _queue_label(stage: StageName, resource: LoRAFineTune) -> dict[str, str]:
    queue = resource.spec.scheduling.queue_name
    return {QUEUE_LABEL: queue} if queue and stage == "train" else {}


def _outside_label(stage: StageName, resource: LoRAFineTune) -> dict[str, str]:
    export = resource.spec.export
    told = any(tracker.connection for tracker in export.trackers or ())
    goes_out = stage == "download" or (stage == "export" and (told or bool(export.publish)))
    return {OUTSIDE_LABEL: "true"} if goes_out else {}


def _pod_template(
    step: Step, arguments: StageArguments, resource: LoRAFineTune, settings: Settings
) -> Object:
    scheduling = resource.spec.scheduling
    resources: StageResources = getattr(resource.spec.resources, step.stage)
    return {
        "metadata": {"labels": _labels(step.stage, resource) | _outside_label(step.stage, resource)},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            **_given(
                serviceAccountName=scheduling.service_account_name,
                imagePullSecrets=[secret.encode() for secret in scheduling.image_pull_secrets],
            ),
            **(_placement(resource) if step.stage == "train" else {}),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(step, arguments, resource, settings)],
            "volumes": list(_volumes(resources, settings)),
        },
    }


def _volumes(resources: StageResources, settings: Settings) -> Iterator[Object]:
    yield {"name": "scratch", "emptyDir": {"sizeLimit": resources.scratch}}
    yield {"name": "shm", "emptyDir": {"medium": "Memory"}}
    if settings.receiver:
        yield _token_volume()


def _token_volume() -> Object:
    """A token that is good for posting progress alone, and dies with the pod."""
    token = {"audience": PROGRESS_AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}
    return {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}}


def _placement(resource: LoRAFineTune) -> Object:
    scheduling = resource.spec.scheduling
    return _given(
        terminationGracePeriodSeconds=resource.spec.resources.train.termination_grace_period_seconds,
        priorityClassName=scheduling.priority_class_name,
        nodeSelector=dict(scheduling.node_selector),
        tolerations=[toleration.encode() for toleration in scheduling.tolerations],
    )


def _given(**fields: Any) -> Object:
    """The fields that are set."""
    return {name: value for name, value in fields.items() if value}


def _container(step: Step, arguments: StageArguments, resource: LoRAFineTune, settings: Settings) -> Object:
    resources: StageResources = getattr(resource.spec.resources, step.stage)
    return {
        "name": step.stage,
        "image": settings.images.get(step.stage, ""),
        "args": [step.stage],
        "env": [
            *_environment(arguments, step.stage, resource, settings),
            *([] if settings.local else _threads(resources)),
        ],
        "resources": _compute(step.stage, resource, resources),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": list(_mounts(settings)),
    }


def _mounts(settings: Settings) -> Iterator[Object]:
    yield {"name": "scratch", "mountPath": SCRATCH}
    yield {"name": "shm", "mountPath": "/dev/shm"}  # noqa: S108 - the pod's own shared memory
    if settings.receiver:
        yield {"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True}


def _compute(stage: StageName, resource: LoRAFineTune, resources: StageResources) -> Object:
    gpu = resource.spec.resources.train.gpu
    gpus = {gpu.resource_name: gpu.count} if stage == "train" and gpu.count else {}
    return {"requests": dict(resources.requests) | gpus, "limits": dict(resources.limits) | gpus}


def encode_arguments(arguments: StageArguments) -> str:
    """The JSON that the stage decodes with the same class."""
    return arguments.model_dump_json(by_alias=True, exclude_none=True)


def _environment(
    arguments: StageArguments, stage: StageName, resource: LoRAFineTune, settings: Settings
) -> Iterator[Object]:
    yield {"name": ARGUMENTS_VARIABLE, "value": encode_arguments(arguments)}
    for name in (WORKDIR_VARIABLE, "HOME", "TMPDIR"):
        yield {"name": name, "value": SCRATCH}
    for name, value in NOT_THE_NODES.items():
        yield {"name": name, "value": value}
    if settings.log_format == "json":
        meta = resource.metadata
        yield {"name": LOG_FORMAT, "value": settings.log_format}
        yield {"name": LOG_ABOUT, "value": f"{meta.namespace}/{meta.name}/{meta.uid}"}
    if stage != "download":
        yield {"name": "HF_HUB_OFFLINE", "value": "1"}
    yield from credentials(stage, resource)
    if stage == "download" and any(dataset.source.startswith(HTTPS) for dataset in resource.spec.datasets):
        yield {"name": HTTPS_VARIABLE, "value": settings.https.model_dump_json(by_alias=True)}
    if settings.receiver:
        yield from _receiver(settings.receiver)


def _threads(resources: StageResources) -> Iterator[Object]:
    """As many as the pod has CPUs: by default there would be one for each CPU of the node."""
    cpus = resources.limits.get("cpu") or resources.requests.get("cpu")
    if cpus:
        yield {"name": "OMP_NUM_THREADS", "value": str(max(1, math.ceil(amount(cpus))))}


def _receiver(receiver: Receiver) -> Iterator[Object]:
    yield {"name": PROGRESS_URL_VARIABLE, "value": receiver.url}
    yield {"name": PROGRESS_CA_VARIABLE, "value": receiver.ca}
    yield {"name": PROGRESS_TOKEN_VARIABLE, "value": f"{TOKEN_FOLDER}/token"}
