"""What the page is made from: what is known of the run, and what the store keeps of it.

Another version may have written it, or a stranger: what is not known is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import LoRAFineTuneStatus
from lorafinetune.api.types import Count
from lorafinetune.contract.answers import Answers
from lorafinetune.contract.arguments import Kind
from lorafinetune.contract.rowlosses import Compared

Number = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]


class _Kept(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)


class Logged(BaseModel):
    """One row of a training's log, by the trainer's own names: an optimizer step, or an evaluation."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    step: Count
    loss: Number | None = None
    eval_loss: Number | None = None
    learning_rate: Number | None = None
    accuracy: Number | None = Field(None, alias="eval_rewards/accuracies")
    epoch: float | None = None
    grad_norm: float | None = None
    tokens_per_second: float | None = None
    exported: bool = False
    """An evaluation of the result, measured apart: it is not compared with those on the way."""


class DatasetRows(_Kept):
    """One dataset. dropped: rows that were left out, by why."""

    source: str = ""
    formats: dict[str, str] = {}
    rows_read: Count = 0
    rows: Count = 0
    eval_rows: Count = 0
    repeated_rows: Count = 0
    dropped: dict[str, Count] = {}


class LengthBin(_Kept):
    """Rows of up to so many tokens; None: over the cutoff."""

    up_to: Count | None = None
    rows: Count = 0


class Overlap(_Kept):
    """Held-out rows that are trained on too. prompts: whose prompt is."""

    rows: Count = 0
    prompts: Count = 0


class Piece(_Kept):
    """A part of a row. learned: whether the model learns to write it."""

    text: str
    learned: bool


class DataReport(_Kept):
    """What prepare reported of the data."""

    objective: str = "sft"
    template: str = ""
    template_differences: dict[str, str] = {}
    datasets: tuple[DatasetRows, ...] = ()
    rows: Count = 0
    eval_rows: Count = 0
    dropped: Count = 0
    bad_rows: tuple[str, ...] = ()
    repeated_rows: Count = 0
    deduplicated: bool = False
    overlap: Overlap = Overlap()
    tokens: Count = 0
    learned_tokens: Count = 0
    cutoff_length: Count = 0
    truncated_rows: Count = 0
    answer_tokens: Count = 0
    lost_answer_tokens: Count = 0
    rows_by_length: tuple[LengthBin, ...] = ()
    warnings: tuple[str, ...] = ()
    samples: tuple[tuple[Piece, ...], ...] = ()


@dataclass(frozen=True)
class Run:
    """One run. model: source of its base. takes_best: whether its result is the best evaluation's. failed:
    whether it has come to an end without one."""

    name: str
    namespace: str
    model: str
    objective: str
    takes_best: bool
    status: LoRAFineTuneStatus
    failed: bool = False

    @classmethod
    def of(cls, resource: LoRAFineTune) -> "Run":
        status, training = resource.status or LoRAFineTuneStatus(), resource.spec.training
        failed = any(each.type == "Failed" and each.status == "True" for each in status.conditions)
        return cls(
            resource.metadata.name,
            resource.metadata.namespace,
            resource.spec.model.source,
            training.objective,
            training.checkpoint.select == "best",
            status,
            failed,
        )


@dataclass(frozen=True)
class Output:
    """What the manifest of an output says."""

    key: str
    digest: str
    created: str
    lineage: Mapping[str, Any]


@dataclass(frozen=True)
class Sources:
    """All of it. log: of the training; the last points of it while that is not in the store. data: None where
    the store has no data report. outputs: what it made, by the kind of output, in the order of the stages.
    compared: None where the store has no losses of single rows. answers: None where it has none."""

    run: Run
    log: tuple[Logged, ...]
    data: DataReport | None
    outputs: Mapping[Kind, Output]
    compared: Compared | None = None
    answers: Answers | None = None

    @property
    def is_trained(self) -> bool:
        """Whether the training has come to its end."""
        return "trainings" in self.outputs
