"""Every reason for which a run fails or waits: a closed list, each with its hint and retry decision.

A retry is decided by the reason, never by a count in a Job.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Retry(StrEnum):
    """What the operator does after a failure for this reason."""

    NEVER = "never"
    """The same input fails again: the run has failed until a person edits something."""
    BACKOFF = "backoff"
    """May pass by itself: tried again with growing pauses, up to `maxRetries`. An attempt
    at the training that left a newer checkpoint is not counted."""
    FREE = "free"
    """Not the run's fault: tried again at once, and not counted."""
    WAIT = "wait"
    """A person must mend something outside the resource; the run goes on by itself afterwards. A run on
    a laptop ends instead."""

    @property
    def needs_a_person(self) -> bool:
        """Whether time alone mends nothing."""
        return self in (Retry.NEVER, Retry.WAIT)

    @property
    def meaning(self) -> str:
        """What follows, for a person who waits."""
        return MEANINGS[self]


MEANINGS: Final = {
    Retry.NEVER: "the run has failed until the resource is edited, or its annotation "
    "`lorafinetune.dev/refresh` gets a new value.",
    Retry.BACKOFF: "up to `maxRetries` times, after 10 s, 20 s, 40 s … up to 10 minutes; an attempt at the "
    "training that left a newer checkpoint than those before it is not counted.",
    Retry.FREE: "at once, and not counted.",
    Retry.WAIT: "somebody must mend something outside the resource; a Job that exists stays and is retried "
    "by the cluster, one that has ended is made anew after growing pauses, and the run goes on by itself "
    "within 10 minutes of the mending.",
}


@dataclass(frozen=True)
class Facts:
    """When a reason is used, what a person can do, and whether it is tried again."""

    when: str
    hint: str
    retry: Retry


class Reason(StrEnum):
    """Names of the reasons, as they stand in conditions, events and exit messages."""

    DATASET_INVALID = "DatasetInvalid"
    DATASET_NOT_FOUND = "DatasetNotFound"
    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_GATED = "ModelGated"
    MODEL_UNSUPPORTED = "ModelUnsupported"
    TEMPLATE_MISMATCH = "TemplateMismatch"
    CONFIG_INVALID = "ConfigInvalid"
    CREDENTIALS_INVALID = "CredentialsInvalid"
    STORAGE_DENIED = "StorageDenied"
    STORAGE_UNAVAILABLE = "StorageUnavailable"
    STORAGE_FULL = "StorageFull"
    HUB_UNAVAILABLE = "HubUnavailable"
    DISK_FULL = "DiskFull"
    HOST_OUT_OF_MEMORY = "HostOutOfMemory"
    CUDA_OUT_OF_MEMORY = "CudaOutOfMemory"
    GPU_UNAVAILABLE = "GpuUnavailable"
    GPU_FAULT = "GpuFault"
    DATA_UNREADABLE = "DataUnreadable"
    RANK_LOST = "RankLost"
    STALLED = "Stalled"
    LOSS_DIVERGED = "LossDiverged"
    EVAL_GATE_FAILED = "EvalGateFailed"
    PREEMPTED = "Preempted"
    SUPERSEDED = "Superseded"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    IMAGE_PULL = "ImagePull"
    SECRET_MISSING = "SecretMissing"  # noqa: S105 - a reason, not a secret
    UNSCHEDULABLE = "Unschedulable"
    QUOTA_EXCEEDED = "QuotaExceeded"
    ADMISSION_DENIED = "AdmissionDenied"
    NODE_LOST = "NodeLost"
    NAME_TAKEN = "NameTaken"
    CHECKPOINT_CORRUPT = "CheckpointCorrupt"
    ARTIFACT_CORRUPT = "ArtifactCorrupt"
    INTERNAL = "Internal"

    @property
    def facts(self) -> Facts:
        return FACTS[self]


FACTS: Final = {
    Reason.DATASET_INVALID: Facts(
        "A dataset has no rows, or rows that can't be learned from.",
        "Mend the rows named in the message, or set `onBadRow: skip` on the dataset.",
        Retry.NEVER,
    ),
    Reason.DATASET_NOT_FOUND: Facts(
        "A dataset's source does not exist.",
        "Check `spec.datasets[].source` and the connection's endpoint.",
        Retry.NEVER,
    ),
    Reason.MODEL_NOT_FOUND: Facts(
        "The model or its revision does not exist.",
        "Check `spec.model.source` and `spec.model.revision`.",
        Retry.NEVER,
    ),
    Reason.MODEL_GATED: Facts(
        "The hub asks for an accepted licence or a token with more rights.",
        "Accept the model's licence on the hub, and name a Secret with a token in the connection.",
        Retry.NEVER,
    ),
    Reason.MODEL_UNSUPPORTED: Facts(
        "The model needs remote code, has no safetensors weights, or is of an unknown architecture.",
        "Use a variant that transformers supports natively, with safetensors weights.",
        Retry.NEVER,
    ),
    Reason.TEMPLATE_MISMATCH: Facts(
        "The chat template is unknown, can't be inferred, or does not fit the model.",
        "Set `spec.model.template` to the template that the model was trained with.",
        Retry.NEVER,
    ),
    Reason.CONFIG_INVALID: Facts(
        "A field of the resource has a value that can't work.",
        "Edit the field named in the message.",
        Retry.NEVER,
    ),
    Reason.CREDENTIALS_INVALID: Facts(
        "The store or hub does not accept the credentials.",
        "Check the Secret that the connection names.",
        Retry.WAIT,
    ),
    Reason.STORAGE_DENIED: Facts(
        "The credentials are good, but may not read or write this bucket, prefix or repository.",
        "Grant read, write and list on the prefix of `spec.storage.uri`.",
        Retry.WAIT,
    ),
    Reason.STORAGE_UNAVAILABLE: Facts(
        "The store does not answer, or answers with an error of its own.",
        "Check the connection's endpoint and the state of the store.",
        Retry.BACKOFF,
    ),
    Reason.STORAGE_FULL: Facts(
        "The store or its quota is full.",
        "Free space in the store, or raise the quota.",
        Retry.WAIT,
    ),
    Reason.HUB_UNAVAILABLE: Facts(
        "The hub does not answer, limits the rate, or answers with an error of its own.",
        "Check the network and the hub; the connection's `endpoint` can name a mirror.",
        Retry.BACKOFF,
    ),
    Reason.DISK_FULL: Facts(
        "The scratch directory is full.",
        "Raise `spec.resources.<stage>.scratch`, or free space on the disk.",
        Retry.NEVER,
    ),
    Reason.HOST_OUT_OF_MEMORY: Facts(
        "The stage used more memory than it may.",
        "Raise the memory limit in `spec.resources.<stage>.limits`.",
        Retry.NEVER,
    ),
    Reason.CUDA_OUT_OF_MEMORY: Facts(
        "The GPU's memory is too small for the training, also with half of a step at a time.",
        "Lower `training.cutoffLength` or `training.lora.rank`, set `training.quantization: nf4`, or use a "
        "larger card.",
        Retry.NEVER,
    ),
    Reason.GPU_UNAVAILABLE: Facts(
        "A GPU was asked for, but the stage sees none.",
        "Set `spec.resources.train.gpu.count: 0` to train on the CPU, or run where there is a GPU.",
        Retry.NEVER,
    ),
    Reason.GPU_FAULT: Facts(
        "The GPU or its driver failed in the middle of the training.",
        "The run goes on from its last checkpoint. If it comes back, have the node's GPU looked at "
        "(`nvidia-smi -q`, Xid errors in the kernel's log), or keep off it by `spec.scheduling`.",
        Retry.BACKOFF,
    ),
    Reason.DATA_UNREADABLE: Facts(
        "The rows or the model could not be read any more from the scratch disk, to which they were copied "
        "whole: a file is gone, cut or changed, or the disk answers with an error.",
        "The run goes on from its last checkpoint, with fresh copies. If it comes back, have the node's disk "
        "looked at, or keep off it by `spec.scheduling`.",
        Retry.BACKOFF,
    ),
    Reason.RANK_LOST: Facts(
        "A process of a training on several GPUs or nodes was killed, or does not answer the others.",
        "The run goes on from its last checkpoint. If it comes back, see the log, whether "
        "`spec.resources.train.limits` leave enough memory, and whether pods can reach each other.",
        Retry.BACKOFF,
    ),
    Reason.STALLED: Facts(
        "A step of the training, or a pass of an evaluation, took 20 times as long as those before it, and "
        "more than 10 minutes; or one of the first three took two hours on a GPU.",
        "The run goes on from its last checkpoint. The stage's log has where it hung; if it comes back, have "
        "the node's GPU and the processors' load looked at.",
        Retry.BACKOFF,
    ),
    Reason.LOSS_DIVERGED: Facts(
        "The loss became infinite or not a number, or exploded: in each of 10 steps it was above 10, and "
        "above three times that of the first step.",
        "Lower `training.learningRate`; with fp16, use bf16 or fp32.",
        Retry.NEVER,
    ),
    Reason.EVAL_GATE_FAILED: Facts(
        "The tuned model is not as much better than its base as `training.evaluation.gate` asks.",
        "Edit the training or its data, or lower `spec.training.evaluation.gate.mustImproveBy`: then what is "
        "trained is exported.",
        Retry.NEVER,
    ),
    Reason.PREEMPTED: Facts(
        "The pod of a stage was evicted, preempted or deleted; a training saves a checkpoint first.",
        "Nothing needs to be done: the run goes on by itself, a training from its last checkpoint.",
        Retry.FREE,
    ),
    Reason.SUPERSEDED: Facts(
        "Another attempt at the same training began: in another cluster, or after a node was lost.",
        "Nothing needs to be done: what the other attempt leaves is gone on from, or found finished.",
        Retry.BACKOFF,
    ),
    Reason.DEADLINE_EXCEEDED: Facts(
        "An attempt took longer than `activeDeadlineSeconds`.",
        "Raise `spec.activeDeadlineSeconds`.",
        Retry.NEVER,
    ),
    Reason.IMAGE_PULL: Facts(
        "The image of a stage can't be pulled.",
        "Check the chart's `images` and `spec.scheduling.imagePullSecrets`; tried again within 5 minutes.",
        Retry.WAIT,
    ),
    Reason.SECRET_MISSING: Facts(
        "A Secret that a connection names, or a key in it, does not exist.",
        "Create it with the keys that the connection needs; the run then goes on within a minute.",
        Retry.WAIT,
    ),
    Reason.UNSCHEDULABLE: Facts(
        "No node can take the pod of a stage.",
        "Free what the message names, or edit `spec.resources` or `spec.scheduling`; it then starts at once.",
        Retry.WAIT,
    ),
    Reason.QUOTA_EXCEEDED: Facts(
        "A ResourceQuota of the namespace leaves no room for the pod of a stage.",
        "Free what the message names, or have the quota raised; the run then goes on within 10 minutes.",
        Retry.WAIT,
    ),
    Reason.ADMISSION_DENIED: Facts(
        "The cluster refuses the Job or pod of a stage: a policy, a LimitRange, no ServiceAccount.",
        "Mend what the message names; the run then goes on within 10 minutes.",
        Retry.WAIT,
    ),
    Reason.NODE_LOST: Facts(
        "The node of a stage does not answer, and its pod may still be running there.",
        "Bring the node back, or delete the Node object once the machine is off.",
        Retry.WAIT,
    ),
    Reason.NAME_TAKEN: Facts(
        "Another object has the name of a stage's Job.",
        "Delete or rename the Job named in the message; the run then goes on within a minute.",
        Retry.WAIT,
    ),
    Reason.CHECKPOINT_CORRUPT: Facts(
        "A checkpoint in the store does not match its digest, or belongs to another training.",
        "Nothing needs to be done: the run goes on from an older checkpoint.",
        Retry.BACKOFF,
    ),
    Reason.ARTIFACT_CORRUPT: Facts(
        "A file in the store does not match the digest in its manifest.",
        "Nothing needs to be done: it is made again. If it comes back, delete the directory named.",
        Retry.BACKOFF,
    ),
    Reason.INTERNAL: Facts(
        "The program has a bug, or was killed without a word.",
        "Report it with the message and the log of the stage.",
        Retry.BACKOFF,
    ),
}
