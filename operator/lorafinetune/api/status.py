"""What the operator reports: the `status` of a LoRAFineTune.

The status is also the memory of the results: a Job and its pod may be gone while the result stands.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from lorafinetune.api.artifacts import Artifacts, ConfigMapStatus, Uri
from lorafinetune.api.types import (
    Count,
    DecimalString,
    Digest,
    Label,
    Line,
    Model,
    Text,
    Time,
    form,
    list_map,
)

StageName = Literal["download", "prepare", "train", "export"]
MOST_STEPS: Final = 1_000_000_000
Steps = Annotated[int, Field(ge=0, le=MOST_STEPS)]
Resumes = Annotated[int, Field(ge=0, le=100_000)]


class Condition(Model):
    """One observation in Kubernetes' usual form."""

    type: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z]*$", max_length=63), form("a word like Ready")]
    """Ready, Reconciling, Stalled, Validated, EvalPassed, Queued, Suspended, Complete or Failed."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    observed_generation: Count = 0
    """Generation of the spec that it speaks of."""
    last_transition_time: Time
    """When `status` changed last."""
    reason: Annotated[
        str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$", max_length=63), form("a word like DatasetInvalid")
    ]
    """Why, in one word."""
    message: Text = ""
    """Why, in a sentence."""


class StageProgress(Model):
    """How far a running stage is."""

    done: Count
    """Units that are done."""
    total: Count | None = None
    """Units in all, once known."""
    unit: Literal["bytes", "rows", "steps", "files"]
    """What is counted."""


class StageStatus(Model):
    """One of the four stages."""

    name: StageName
    """Name of the stage."""
    state: Literal["Pending", "Running", "Waiting", "Stopping", "Complete", "Failed"] = "Pending"
    """What was last observed."""
    inputs: Digest | None = None
    """Digest of the arguments that the result belongs to."""
    job: Label | None = None
    """Name of the last Job."""
    key: Digest | None = None
    """Content address of the output in the store."""
    attempts: Annotated[int, Field(ge=0, le=1000)] = 0
    """Failed attempts that count against `maxRetries`."""
    checkpoint_step: Steps | None = None
    """With the training: step of the last checkpoint that failed attempts left. One that left a newer one
    than all before it is not counted."""
    start_time: Time | None = None
    """When the first attempt began."""
    completion_time: Time | None = None
    """When the result was there."""
    cache_hit: bool | None = None
    """Whether the output was found in the store."""
    progress: StageProgress | None = None
    """How far the stage is."""
    message: Text | None = None
    """What it is doing, or why it failed."""


class ModelStatus(Model):
    """The base model as it was resolved."""

    source: Uri
    """The source as written in the spec."""
    revision: Line
    """The commit, or a digest of the listing where a source has no commits."""
    digest: Digest
    """Digest over the names, sizes and sha256 of all files."""
    bytes: Count
    """Size of all files."""


class DatasetStatus(Model):
    """The prepared data."""

    rows: Count
    """Rows that are trained on; with `objective: pt`, rows of `cutoffLength` tokens, as those held out."""
    eval_rows: Count = 0
    """Rows that are held out."""
    dropped: Count = 0
    """Rows that were left out as bad."""
    tokens: Count
    """Tokens of the training rows."""
    learned_tokens: Count
    """Tokens of the training rows that are learned from."""
    truncated: Count = 0
    """Rows that are cut at `cutoffLength`."""
    repeated: Count = 0
    """Rows that equal an earlier one; they are left out with `deduplicate`."""
    overlap: Count = 0
    """Held-out rows that are trained on too."""
    formats: Annotated[tuple[Line, ...], Field(max_length=32)] = ()
    """What each dataset was read as, in the order of the spec."""
    digest: Digest
    """Digest of the prepared dataset."""
    report: Uri
    """Where the data report is."""


class Estimate(Model):
    """What the training will take, estimated before it begins."""

    steps: Steps
    """Optimizer steps in all; with early stopping, at most."""
    packs: Count | None = None
    """With `training.packing: tokens`: packs of `batchTokens` tokens that the rows fill, each one a step."""
    seconds: Count
    """Time in optimizer steps and evaluations: on H100s, or on two cores where no GPU is asked for."""
    evaluating_seconds: Count = 0
    """The part of it that evaluations take."""
    gpu_memory: Count | None = None
    """Bytes of one card's memory at the peak. Absent if `resources.train.gpu.memory` is absent."""
    micro_batch: Steps | None = None
    """Conversations in one pass over the model."""
    gradient_checkpointing: bool | None = None
    """Whether activations are computed twice to save memory."""
    disk: Count
    """Bytes of the training's scratch directory."""
    report: Uri | None = None
    """A page with the data report, and with what was proven of the training at its top."""


class LossPoint(Model):
    """One point of the loss curve."""

    step: Steps
    """Optimizer step."""
    loss: DecimalString
    """Mean loss per learned token since the point before."""


class TrainingStatus(Model):
    """Numbers of the training."""

    step: Steps = 0
    """Optimizer steps done."""
    total_steps: Steps = 0
    """Optimizer steps in all."""
    stopped_early: bool | None = None
    """True where early stopping ended the training, after `step` of `totalSteps`."""
    epoch: DecimalString | None = None
    """Passes over the data so far."""
    loss: DecimalString | None = None
    """Last training loss."""
    eval_loss: DecimalString | None = None
    """Last loss on the held-out rows."""
    base_eval_loss: DecimalString | None = None
    """Loss of the base model on them: evaluated before the first step, once for the same model and rows."""
    best_step: Steps | None = None
    """With `checkpoint.select: best`: optimizer step of the lowest loss on the held-out rows so far. In the
    end the adapter is that of this step."""
    best_eval_loss: DecimalString | None = None
    """That loss."""
    tokens_per_second: Count | None = None
    """Useful tokens a second."""
    recent: Annotated[tuple[LossPoint, ...], Field(max_length=32)] = ()
    """The last points of the loss curve."""


class CheckpointStatus(Model):
    """The newest complete checkpoint."""

    step: Steps
    """Optimizer step at which it was saved."""
    uri: Uri
    """Where it is."""
    time: Time | None = None
    """When it was complete."""


class GpuSeconds(Model):
    """Time that GPUs were held by a training, summed over GPUs and over its attempts, each up to the
    checkpoint that the next went on from; while it is not finished, up to its newest checkpoint."""

    held: Count = 0
    """From the start of the stage until its adapter was uploaded."""
    training: Count = 0
    """In optimizer steps."""
    evaluating: Count = 0
    """In evaluations."""


class Failure(Model):
    """Why the run failed or waits. Absent when all is well."""

    stage: StageName | None = None
    """The stage that failed."""
    reason: Annotated[str, Field(max_length=63)]
    """One of the closed list of reasons."""
    message: Text
    """What happened, with the field, or file and line."""
    hint: Text = ""
    """What to do."""


class LoRAFineTuneStatus(Model):
    """The observed fine-tuning."""

    observed_generation: Count = 0
    """Generation of the spec that this status speaks of."""
    observed_refresh: Line | None = None
    """Value of the annotation `lorafinetune.dev/refresh` that this status speaks of."""
    stage: Line | None = None
    """The stage that runs, or Complete, Failed, Suspended."""
    progress: Annotated[str, Field(max_length=8)] | None = None
    """Percent of the running stage."""
    loss: DecimalString | None = None
    """Last training loss."""
    eta: Annotated[str, Field(max_length=16)] | None = None
    """Estimated time to the end of the running stage."""
    conditions: Annotated[tuple[Condition, ...], list_map("type"), Field(max_length=16)] = ()
    """Conditions that kstatus, Argo CD and Flux understand."""
    stages: Annotated[tuple[StageStatus, ...], list_map("name"), Field(max_length=4)] = ()
    """The four stages."""
    model: ModelStatus | None = None
    """The base model as it was resolved."""
    datasets: Annotated[tuple[Digest, ...], Field(max_length=32)] = ()
    """Keys of the datasets as they were resolved, in the order of the spec."""
    dataset: DatasetStatus | None = None
    """The prepared data."""
    estimate: Estimate | None = None
    """What the training will take, as far as it can be told before it begins."""
    training: TrainingStatus | None = None
    """Numbers of the training."""
    checkpoint: CheckpointStatus | None = None
    """The newest complete checkpoint."""
    resumes: Resumes = 0
    """How often the training went on from a checkpoint."""
    artifacts: Artifacts | None = None
    """The outputs. Those of the spec before an edit stay until training, or export, begins anew, also where
    the edit is refused or fails before: `Ready` is False then."""
    config_map: ConfigMapStatus | None = None
    """What became of `export.configMap`."""
    gpu_seconds: GpuSeconds | None = None
    """Time that GPUs were held."""
    failure: Failure | None = None
    """Why the run failed or waits. Absent when all is well."""
