"""What the pods of the stages get, and where they run."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lorafinetune.api.sources import SecretReference
from lorafinetune.api.types import Label, LabelValue, Model, Quantity, Subdomain, form, keyed_by, list_map

RESOURCE_NAME = r"^[a-z0-9]([a-z0-9./-]*[a-z0-9])?$"
RESOURCE_NAME_FORM = "the name of a resource, like cpu or nvidia.com/gpu"
ResourceName = Annotated[str, Field(pattern=RESOURCE_NAME, max_length=128), form(RESOURCE_NAME_FORM)]
Quantities = Annotated[dict[str, Quantity], Field(max_length=16)]


class StageResources(Model):
    """Compute resources of one stage's pod."""

    rules: ClassVar = (
        keyed_by(RESOURCE_NAME, 128, RESOURCE_NAME_FORM, "self.requests", ".requests"),
        keyed_by(RESOURCE_NAME, 128, RESOURCE_NAME_FORM, "self.limits", ".limits"),
    )

    requests: Quantities = {}
    """What the pod asks for, like `{cpu: "8", memory: 64Gi}`."""
    limits: Quantities = {}
    """What the pod may not exceed."""
    scratch: Quantity = "50Gi"
    """Largest size of the pod's scratch directory."""


class Gpu(Model):
    """GPUs of the training."""

    count: Annotated[int, Field(ge=0, le=1024)] = 1
    """Number of GPUs of one node, which share every step; 0 trains on the CPU. It must divide
    `training.batchSize`, not `batchTokens`. It changes no result, apart from the order in which floats are
    added and what dropout drops."""
    resource_name: ResourceName = "nvidia.com/gpu"
    """Name of the extended resource."""
    memory: Quantity | None = None
    """Memory of one card, to prove before the run that the training fits."""


class TrainResources(StageResources):
    """Compute resources of the training's pods, which alone ask for GPUs."""

    gpu: Gpu = Gpu()
    """GPUs of the training."""
    nodes: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of pods of the training, each with `gpu.count` GPUs, or on the CPU where that is 0, and each
    with these requests and limits. All share every step: `training.batchSize` must be a multiple of nodes
    times GPUs. It changes results no more than `gpu.count` does. If one pod is lost, all end, and go on
    together from the last checkpoint. `lorafinetune run` trains on one machine, whatever this says."""
    sharding: Literal["none", "fsdp2"] = "none"
    """`fsdp2` splits the layers of the frozen base over all GPUs of the training, for a model that does not
    fit one card: each is gathered while it computes. It changes results no more than `gpu.count` does, and
    costs speed. It does not go with `quantization: nf4`, `precision: fp8` or `lora.variant: dora`."""
    termination_grace_period_seconds: Annotated[int, Field(ge=10, le=3600)] = 120
    """Time to save a checkpoint when the pod is asked to leave."""


class Resources(Model):
    """Compute resources by stage."""

    download: StageResources = StageResources()
    """Resources of the download."""
    prepare: StageResources = StageResources()
    """Resources of the preparation."""
    train: TrainResources = TrainResources()
    """Resources of the training."""
    export: StageResources = StageResources()
    """Resources of the export."""


class Toleration(Model):
    """A taint that the pods tolerate."""

    key: Annotated[str, Field(max_length=316)] | None = None
    """Key of the taint. Absent, with `Exists`: every taint."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """How the taint's value is compared."""
    value: LabelValue | None = None
    """Value of the taint, with `Equal`."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint. Absent: every effect."""
    toleration_seconds: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    """How long a `NoExecute` taint is tolerated."""


class ImagePullSecret(SecretReference):
    """A Secret to pull images with."""


class Scheduling(Model):
    """Where and with what standing the pods run."""

    rules: ClassVar = (
        keyed_by(
            r"^([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$",
            316,
            "the name of a label, like kubernetes.io/arch",
            "self.nodeSelector",
            ".nodeSelector",
        ),
    )

    queue_name: Label | None = None
    """Kueue's LocalQueue for the training."""
    priority_class_name: Subdomain | None = None
    """PriorityClass of the training's pod."""
    node_selector: Annotated[
        dict[Annotated[str, Field(max_length=316)], LabelValue],
        Field(max_length=16),
    ] = {}
    """Labels of the nodes that the training's pod may run on."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16)] = ()
    """Taints that the training's pod tolerates."""
    service_account_name: Subdomain | None = None
    """ServiceAccount of every pod. Absent: the namespace's default."""
    image_pull_secrets: Annotated[tuple[ImagePullSecret, ...], list_map("name"), Field(max_length=8)] = ()
    """Secrets to pull the images with."""
