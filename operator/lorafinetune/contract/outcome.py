"""How a stage ends: its exit code and its termination message.

The message holds digests and numbers; details are in the store. The kubelet keeps the last 4,096
bytes of it, so it is kept well below that.
"""

from enum import IntEnum
from typing import Annotated, Any, Final

from pydantic import Field

from lorafinetune.api.artifacts import Artifact, Published, Uri
from lorafinetune.api.reasons import Reason
from lorafinetune.api.safetext import safe
from lorafinetune.api.status import (
    DatasetStatus,
    Estimate,
    GpuSeconds,
    ModelStatus,
    Resumes,
    StageName,
    Steps,
    TrainingStatus,
)
from lorafinetune.api.types import Count, DecimalString, Digest, Line, Model

MAX_MESSAGE_BYTES: Final = 3500
MAX_ETA_SECONDS: Final = 10**9
"""What is further away is not worth saying, and would not fit its column."""


class ExitCode(IntEnum):
    """Exit codes of the stage programs."""

    DONE = 0
    BUG = 1
    BAD_INPUT = 64
    TEMPORARY = 75
    STOPPED = 85
    """Stopped early, after a checkpoint."""


BY_BUS_ERROR: Final = "by SIGBUS: a file that it had mapped could not be read any more, or /dev/shm is full"
"""How a program ends that the disk fails while it reads: it has no last words."""


class StageError(Exception):
    """A failure that a person can understand: it ends the stage, and becomes its termination message.

    message: what happened, with field, or file and line. hint: replaces the reason's own hint. checkpoint:
    step of the last one that the attempt left in the store, if any.
    """

    def __init__(self, reason: Reason, message: str, hint: str = "", checkpoint: int | None = None) -> None:
        super().__init__(reason, message, hint, checkpoint)
        self.reason = reason
        self.message = message
        self.hint = hint or reason.facts.hint
        self.checkpoint = checkpoint

    def __str__(self) -> str:
        return self.message


class Result(Model):
    """Base of the results."""

    cache_hit: bool = False
    """Whether the output was found in the store."""


class DownloadResult(Result):
    model: ModelStatus
    datasets: tuple[Digest, ...]
    """Key of each dataset, in the order of the arguments."""


class TrainResult(Result):
    key: Digest
    adapter: Artifact
    training: TrainingStatus
    gpu_seconds: GpuSeconds = GpuSeconds()
    resumes: Resumes = 0
    """How often it went on from a checkpoint."""


class PrepareResult(Result):
    key: Digest
    template: Line
    """LLaMA-Factory's name of the template, resolved."""
    train_key: Digest
    """Content address that the training will have."""
    dataset: DatasetStatus
    warnings: tuple[Annotated[str, Field(max_length=300)], ...] = ()
    estimate: Estimate | None = None
    """What the training will take. Absent where it is finished."""
    trained: TrainResult | None = None
    """The finished training, where the store has one under `train_key`."""


class ExportResult(Result):
    key: Digest
    merged: Artifact | None = None
    published: tuple[Published, ...] = ()
    """Where the merged model was published, in the order of the arguments."""
    report: Uri | None = None
    """The page about the run."""
    warnings: tuple[Annotated[str, Field(max_length=300)], ...] = ()


RESULTS: Final[dict[StageName, type[Result]]] = {
    "download": DownloadResult,
    "prepare": PrepareResult,
    "train": TrainResult,
    "export": ExportResult,
}


class ErrorMessage(Model):
    """A failure as it travels."""

    reason: Reason
    message: Annotated[str, Field(max_length=4096)]
    hint: Annotated[str, Field(max_length=1024)] = ""
    checkpoint: Steps | None = None
    """Step of the last checkpoint that the attempt left in the store."""


class TerminationMessage(Model):
    """What a stage leaves behind; exactly one of the two is there."""

    result: dict[str, Any] | None = None
    error: ErrorMessage | None = None


class Progress(Model):
    """The latest progress of a running stage, as its progress file holds it and as it is posted."""

    stage: StageName
    activity: Line = ""
    """What it is doing, like `tokenising`."""
    done: Count = 0
    total: Count | None = None
    unit: Line = "steps"
    """What is counted: bytes, rows, steps or files."""
    rate: DecimalString | None = None
    """Units a second."""
    eta_seconds: Annotated[int, Field(ge=0, le=MAX_ETA_SECONDS)] | None = None
    training: TrainingStatus | None = None
    checkpoint_step: Steps | None = None
    """Step of the newest complete checkpoint."""
    checkpoint_attempt: Annotated[int, Field(ge=0)] | None = None
    """Attempt that saved it."""
    gpu_seconds: GpuSeconds | None = None
    """What the training cost up to it, in all attempts."""
    resumed_from: Steps | None = None
    """Step of the checkpoint that this attempt went on from."""
    resumes: Resumes | None = None
    """How often the training went on from a checkpoint, this attempt included."""


def encode_result(result: Result) -> str:
    """The termination message of a stage that is done. Raises ValueError over the size limit."""
    text = _message(result)
    if len(text.encode()) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a result of {len(text.encode())} bytes does not fit a termination message")
    return text


def fits(result: Result) -> bool:
    """Whether a result has room in a termination message."""
    return len(_message(result).encode()) <= MAX_MESSAGE_BYTES


def _message(result: Result) -> str:
    return TerminationMessage(result=result.encode()).model_dump_json(by_alias=True, exclude_none=True)


def encode_error(error: StageError) -> str:
    """The termination message of a stage that failed, shortened to fit."""
    size = min(len(error.message), MAX_MESSAGE_BYTES)
    while True:
        message = error.message if size == len(error.message) else error.message[:size] + "…"
        body = ErrorMessage(
            reason=error.reason, message=message, hint=error.hint[:1024], checkpoint=error.checkpoint
        )
        text = TerminationMessage(error=body).model_dump_json(by_alias=True, exclude_none=True)
        if len(text.encode()) <= MAX_MESSAGE_BYTES:
            return text
        size = size * 3 // 4


def decode_message(stage: StageName, text: str) -> Result | StageError | None:
    """What a stage left behind, or None where it can't be read. Names of files, rows and answers of servers
    stand in it, and everything in it ends in status, Events and terminals."""
    try:
        message = TerminationMessage.model_validate_json(text)
        if error := message.error:
            return StageError(error.reason, safe(error.message), safe(error.hint), error.checkpoint)
        return RESULTS[stage].decode(_safe(message.result or {}))
    except (ValueError, RecursionError):
        return None


def _safe(value: Any) -> Any:
    """JSON whose texts are safe."""
    match value:
        case str():
            return safe(value)
        case list():
            return [_safe(one) for one in value]
        case dict():
            return {safe(name): _safe(one) for name, one in value.items()}
    return value
