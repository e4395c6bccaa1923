"""Writes what a stage reported into the status, which is the memory of the results."""

from datetime import datetime
from typing import Any

from lorafinetune.api.artifacts import MOST_OUTPUTS, Artifacts, ConfigMapStatus
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import (
    CheckpointStatus,
    LoRAFineTuneStatus,
    StageName,
    StageProgress,
    StageStatus,
    TrainingStatus,
)
from lorafinetune.contract.arguments import CHECKPOINTS, STAGES, place, state_path
from lorafinetune.contract.outcome import (
    DownloadResult,
    ExportResult,
    PrepareResult,
    Progress,
    Result,
    TrainResult,
)
from lorafinetune.contract.times import duration, rfc3339
from lorafinetune.core.steps import stage_status


def with_stage(status: LoRAFineTuneStatus, changed: StageStatus) -> LoRAFineTuneStatus:
    """The status with one stage replaced; all four are there, in order."""
    stages = tuple(changed if name == changed.name else stage_status(status, name) for name in STAGES)
    return status.model_copy(update={"stages": stages})


def record(
    status: LoRAFineTuneStatus, stage: StageName, inputs: str, result: Result, now: datetime
) -> LoRAFineTuneStatus:
    """The status after a stage has its result: the stage is Complete, and its numbers are kept."""
    done = stage_status(status, stage).model_copy(
        update={
            "state": "Complete",
            "inputs": inputs,
            "completion_time": rfc3339(now),
            "cache_hit": result.cache_hit,
            "progress": None,
            "message": None,
        }
    )
    status = with_stage(status, done)
    match result:
        case DownloadResult():
            return status.model_copy(update={"model": result.model, "datasets": result.datasets})
        case PrepareResult():
            return _prepared(status, result, now)
        case TrainResult():
            return _trained(status, result)
        case ExportResult():
            told = {"key": result.key, "message": "; ".join(result.warnings) or None}
            status = with_stage(status, done.model_copy(update=told))
            return _artifacts(status, merged=result.merged, published=result.published, report=result.report)
        case _:
            return status


def _prepared(status: LoRAFineTuneStatus, result: PrepareResult, now: datetime) -> LoRAFineTuneStatus:
    warnings = "; ".join(result.warnings) or None
    prepare = stage_status(status, "prepare").model_copy(update={"key": result.key, "message": warnings})
    found = {"dataset": result.dataset, "estimate": result.estimate}
    status = with_stage(status, prepare).model_copy(update=found)
    train = stage_status(status, "train")
    if train.key != result.train_key:
        status = with_stage(status, StageStatus(name="train", key=result.train_key))
        status = without_outputs(status, "train")
    if result.trained is None:
        return status
    trained = result.trained.model_copy(update={"cache_hit": True})
    return record(status, "train", result.train_key, trained, now)


def _trained(status: LoRAFineTuneStatus, result: TrainResult) -> LoRAFineTuneStatus:
    told = {"key": result.key, "message": ending(result.training)}
    status = with_stage(status, stage_status(status, "train").model_copy(update=told))
    numbers = {
        "training": result.training,
        "loss": result.training.loss,
        "gpu_seconds": result.gpu_seconds,
        "resumes": result.resumes,
    }
    return _artifacts(status, adapter=result.adapter).model_copy(update=numbers)


def ending(training: TrainingStatus) -> str | None:
    """What is to be said of the end of a training that is done."""
    step, total, best = training.step, training.total_steps, training.best_step
    if training.stopped_early:
        kept = "" if best is None else f", and kept the adapter of step {best}"
        return f"stopped early at step {step} of {total}{kept}"
    return None if best is None else f"kept the adapter of step {best} of {total}"


def without_outputs(status: LoRAFineTuneStatus, stage: StageName) -> LoRAFineTuneStatus:
    """The status without what a stage, or one after it, made for inputs that are gone."""
    if stage not in ("train", "export"):
        return status
    status = _artifacts(status, merged=None, published=(), report=None)
    if stage == "export":
        return status
    gone = {"training": None, "checkpoint": None, "loss": None, "gpu_seconds": None, "resumes": 0}
    return _artifacts(status, adapter=None).model_copy(update=gone)


def with_handover(status: LoRAFineTuneStatus) -> LoRAFineTuneStatus:
    """The status of a complete run whose ConfigMap is to name its outputs. Until it does, it names those of
    before, and both are told, so that none of them is taken for garbage."""
    kept, made = status.config_map or ConfigMapStatus(), status.artifacts or Artifacts()
    outputs = tuple(dict.fromkeys((*kept.outputs, *made.uris)))[:MOST_OUTPUTS]
    return status.model_copy(update={"config_map": kept.model_copy(update={"outputs": outputs})})


def _artifacts(status: LoRAFineTuneStatus, **changes: object) -> LoRAFineTuneStatus:
    artifacts = (status.artifacts or Artifacts()).model_copy(update=changes)
    return status.model_copy(update={"artifacts": artifacts if artifacts != Artifacts() else None})


def _far(progress: Progress) -> tuple[str | None, str | None]:
    """How far it is, and how long it still takes."""
    share = f"{min(99, 100 * progress.done // progress.total)}%" if progress.total else None
    return share, None if progress.eta_seconds is None else duration(progress.eta_seconds)


def with_progress(
    status: LoRAFineTuneStatus,
    resource: LoRAFineTune,
    running: StageStatus,
    progress: Progress,
    now: datetime,
) -> LoRAFineTuneStatus:
    """The status with what a running stage says of itself. It decides nothing but whether an attempt counts
    that ends without a word.

    A training is as far as its steps are, not as the copying of its inputs.
    """
    share, eta = _far(progress) if running.name != "train" or progress.unit != "bytes" else (None, None)
    unit = progress.unit if progress.unit in ("bytes", "rows", "steps", "files") else "files"
    counted = StageProgress.decode(
        {"done": progress.done, "unit": unit} | ({"total": progress.total} if progress.total else {})
    )
    moved = running.model_copy(update={"progress": counted, "message": progress.activity or None})
    changes: dict[str, Any] = {"progress": share, "eta": eta}
    if progress.training:
        changes |= {"training": progress.training, "loss": progress.training.loss}
    if progress.resumes is not None:
        changes["resumes"] = progress.resumes
    if progress.checkpoint_step is not None and running.key:
        training = f"{resource.spec.storage.uri}/{place('trainings', running.key)}"
        saved = state_path(progress.checkpoint_step, progress.checkpoint_attempt or 0)
        uri = f"{training}/{CHECKPOINTS}/{saved}"
        changes["checkpoint"] = _checkpoint(status.checkpoint, progress.checkpoint_step, uri, now)
        changes["gpu_seconds"] = progress.gpu_seconds or status.gpu_seconds
    return with_stage(status, moved).model_copy(update=changes)


def _checkpoint(before: CheckpointStatus | None, step: int, uri: str, now: datetime) -> CheckpointStatus:
    """With the time at which it was first heard of."""
    return before if before and before.uri == uri else CheckpointStatus(step=step, uri=uri, time=rfc3339(now))
