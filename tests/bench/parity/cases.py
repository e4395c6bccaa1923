"""Whose loss curves are held against each other, in the order of what matters most.

What makes two trainings equal: all go through the stage's own attempt with the same arguments of
LLaMA-Factory (learning rate, schedule, clipping, rank, no dropout) on the same prepared rows, with the same
`data_seed`, of which accelerate's sampler makes the order. The seed is then that of the adapter's first
weights alone, so that the noise of two seeds has no part of other conversations in it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bench.parity.compare import EXACT, RECIPE
from bench.train.cases import PADDED, Case
from lorafinetune_stages.train.fit import Fit
from lorafinetune_stages.train.plan import TrainingPlan

CONVERSATIONS: Final = 8
"""In an optimizer step, as the recipe has them."""
SEEDS: Final = (1, 2)
SAME_ORDER: Final = {"data_seed": 1}
AS_WRITTEN: Final = TrainingPlan(Fit(1, CONVERSATIONS, True))
"""LLaMA-Factory's own trainer and collator, with nothing of ours but the callback that logs."""
AT_ONCE: Final = TrainingPlan(Fit(CONVERSATIONS, 1, False))


@dataclass(frozen=True)
class Settings:
    """name: what a reader of the table sees. training: fields of the spec. plan: absent where the stage
    chooses."""

    name: str
    training: Mapping[str, Any] = field(default_factory=dict)
    plan: TrainingPlan | None = None
    seeds: tuple[int, ...] = SEEDS


AUTO: Final = Settings("auto")
AUTO_IN_FP16: Final = Settings("auto, but in fp16", {"precision": "fp16"})
ON_A_GPU: Final = (
    Settings(f"{RECIPE}: fp16, 8 × 1 padded", {**PADDED, "precision": "fp16"}, AS_WRITTEN),
    AUTO,
    Settings("fp8", {"precision": "fp8"}),
    Settings("nf4", {"quantization": "nf4"}, seeds=SEEDS[:1]),
    Settings(f"{EXACT}, 8 × 1 padded", {**PADDED, "precision": "fp32"}, AS_WRITTEN, seeds=SEEDS[:1]),
    Settings("LLaMA-Factory: bf16, 1 × 8 padded", PADDED, AT_ONCE, seeds=SEEDS[:1]),
    AUTO_IN_FP16,
)
ON_A_CPU: Final = (
    Settings(f"{RECIPE}, but in bf16: 8 × 1 padded", {**PADDED, "precision": "bf16"}, AS_WRITTEN),
    AUTO,
)
"""A CPU computes in no fp16."""
IN_FP16: Final = (ON_A_GPU[0], AUTO_IN_FP16)
"""The recipe's own type of numbers on both sides, so that no other rounding parts them."""


@dataclass(frozen=True)
class Training:
    """One curve to be: its settings, its seed, and how it is asked of the stage."""

    settings: str
    seed: int
    case: Case


def trainings(gpus: int, steps: int, fields: Mapping[str, Any], in_fp16: bool = False) -> list[Training]:
    """fields: of the spec, for all of them."""
    table = IN_FP16 if in_fp16 else ON_A_GPU if gpus else ON_A_CPU
    return list(_trainings(table, steps, fields))


def _trainings(table: tuple[Settings, ...], steps: int, fields: Mapping[str, Any]) -> Iterator[Training]:
    for settings in table:
        for seed in settings.seeds:
            case = Case(
                f"{settings.name}, seed {seed}",
                steps,
                CONVERSATIONS,
                1,
                {**fields, **settings.training, "seed": seed},
                settings.plan,
                SAME_ORDER,
            )
            yield Training(settings.name, seed, case)
