"""What a stage posts: our own progress, or the `trainerStatus` of Kubeflow Trainer's protocol (KEP-2779).

Our own is decoded as strictly as everything on our wire. The other's fields are another project's, so
unknown ones are passed over.
"""

import math
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import from_json

from lorafinetune.api.problem import first_fault
from lorafinetune.api.status import Steps, TrainingStatus
from lorafinetune.contract.outcome import Progress

MAX_BODY_BYTES: Final = 64 * 1024
MAX_DECIMAL: Final = 1e9
MAX_DIGITS: Final = 9


class Metric(BaseModel):
    """A number by name, written as text."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    value: Annotated[str, Field(min_length=1, max_length=64)]


class TrainerStatus(BaseModel):
    """Kubeflow's bounds. Its `lastUpdatedTime` is the sender's clock, which nobody here believes."""

    model_config = ConfigDict(alias_generator=to_camel, strict=True)

    progress_percentage: Annotated[int, Field(ge=0, le=100)] | None = None
    estimated_remaining_seconds: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metrics: Annotated[list[Metric], Field(max_length=256)] = []


class Update(BaseModel):
    """Kubeflow's body. An empty one is allowed, and says nothing."""

    model_config = ConfigDict(alias_generator=to_camel, strict=True)

    trainer_status: TrainerStatus | None = None

    def progress(self) -> Progress | None:
        """What it says of the training, in our words."""
        return _translated(self.trainer_status) if self.trainer_status else None

    def answer(self) -> str:
        """What Kubeflow's server answers: the update as it was read."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


def decode(body: bytes) -> Progress | Update:
    """Raises ValueError, whose text names the field and repeats no value."""
    found = from_json(body, allow_inf_nan=False)
    try:
        if isinstance(found, dict) and "trainerStatus" in found:
            return Update.model_validate_json(body)
        progress = Progress.model_validate_json(body)
    except ValidationError as problem:
        where, fault = first_fault(problem)
        raise ValueError(f"{where or 'the body'}: {fault}"[:500]) from problem
    if not (progress.activity + progress.unit).isprintable():
        raise ValueError("activity, unit: must be printable")
    return progress


def _translated(status: TrainerStatus) -> Progress:
    """Counted in steps where the metrics name them, else in percent."""
    metrics = {metric.name: metric.value for metric in status.metrics}
    percent = status.progress_percentage or 0
    total = _steps(metrics.get("total_steps", ""))
    step = _steps(metrics.get("current_step", "")) if total else 0
    if total and not step:
        step = total * percent // 100
    return Progress(
        stage="train",
        activity="training",
        done=step if total else percent,
        total=total or 100,
        unit="steps" if total else "percent",
        eta_seconds=status.estimated_remaining_seconds,
        training=TrainingStatus(
            step=step,
            total_steps=total,
            epoch=_decimal(metrics.get("current_epoch") or metrics.get("epoch", "")),
            loss=_decimal(metrics.get("loss", "")),
            eval_loss=_decimal(metrics.get("eval_loss", "")),
        ),
    )


def _steps(text: str) -> Steps:
    """A number of steps, or 0 where the text is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS else 0


def _decimal(text: str) -> str | None:
    """A number as the API writes it, or None where the text is none that it can hold."""
    try:
        number = float(text)
    except ValueError:
        return None
    if not math.isfinite(number) or not 0 <= number < MAX_DECIMAL:
        return None
    return f"{round(number, 6):.6f}".rstrip("0").rstrip(".")
