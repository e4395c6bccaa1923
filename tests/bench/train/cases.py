"""What is compared, in the order of what matters most, so that a run that is cut short has that."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lorafinetune_stages.train.fit import Fit
from lorafinetune_stages.train.optimizations import Optimizations
from lorafinetune_stages.train.plan import TrainingPlan

MANY: Final = 8192
"""Tokens in a pack where the memory is not in question."""


@dataclass(frozen=True)
class Case:
    """name: what a reader of the table sees. steps: in all, of which the first half is not counted.
    batch_size: absent where a step has so many tokens. ranks: processes that share a step, one a GPU.
    training: fields of the spec over the usual ones. plan: absent where the stage chooses.
    extra: arguments of LLaMA-Factory."""

    name: str
    steps: int = 32
    batch_size: int | None = 8
    ranks: int = 1
    training: Mapping[str, Any] = field(default_factory=dict)
    plan: TrainingPlan | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def warm_up(self) -> int:
        return self.steps // 2


def packed(checkpointing: bool = True, **optimizations: Any) -> TrainingPlan:
    """Eight packed conversations at a time, with nothing on but what is named."""
    chosen = Optimizations(**{"attention": "each", "sparse_loss": False, **optimizations})
    return TrainingPlan(Fit(8, 1, checkpointing, MANY), chosen)


LONG: Final = 96
"""Until then most lengths of packs have come, and have a graph."""
PADDED: Final = {"packing": "none"}
IN_TOKENS: Final = {"packing": "tokens", "batchTokens": MANY}
CASES: Final = (
    Case("auto", steps=LONG),
    Case("auto, 22 conversations a step", batch_size=22, steps=48),
    Case("fp8", steps=LONG, training={"precision": "fp8"}),
    Case("fp8, 22 conversations a step", batch_size=22, steps=48, training={"precision": "fp8"}),
    Case("nf4", training={"quantization": "nf4"}),
    Case("nf4, 22 conversations a step", batch_size=22, steps=24, training={"quantization": "nf4"}),
    Case("auto, rows read by another process", extra={"dataloader_num_workers": 1}),
    Case(
        "the recipe as written: fp16, 8 × 1 padded, recomputed",
        steps=6,
        training={**PADDED, "precision": "fp16"},
        plan=TrainingPlan(Fit(1, 8, True)),
    ),
    Case(
        "LLaMA-Factory: bf16, 1 × 8 padded",
        steps=14,
        training=PADDED,
        plan=TrainingPlan(Fit(8, 1, False)),
    ),
    Case("packed alone", steps=12, plan=packed()),
    Case(
        "packed, varlen attention, compiled",
        steps=20,
        plan=packed(attention="varlen", compiled=True, multiple=64, cast=True),
    ),
    Case("packed, not recomputed", steps=12, plan=packed(checkpointing=False)),
    Case("packed, loss where learned", steps=12, plan=packed(sparse_loss=True)),
    Case("packed, varlen attention", steps=12, plan=packed(attention="varlen")),
    Case(
        "auto, uncompiled",
        steps=16,
        plan=packed(checkpointing=False, attention="varlen", sparse_loss=True, cast=True),
    ),
    Case("auto, AdamW unfused", steps=20, extra={"optim": "adamw_torch"}),
    Case("packing: tokens", batch_size=None, steps=24, training=IN_TOKENS),
    Case("packing: tokens, fp8", batch_size=None, steps=24, training={**IN_TOKENS, "precision": "fp8"}),
    Case("packed, adapters in bf16 copies", steps=12, plan=packed(cast=True)),
    Case(
        "fp8, kernels launched one by one",
        steps=LONG,
        training={"precision": "fp8"},
        plan=packed(
            checkpointing=False,
            attention="varlen",
            sparse_loss=True,
            compiled=True,
            multiple=64,
            mixed="bfloat16",
            cast=True,
            fp8=True,
        ),
    ),
)
SEVERAL: Final = (
    Case("1 GPU, 22 conversations a step", batch_size=22, steps=24),
    Case("2 GPUs, 44 conversations a step", batch_size=44, steps=24, ranks=2),
    Case("2 GPUs, 22 conversations a step", batch_size=22, steps=24, ranks=2),
    Case("1 GPU, 8 conversations a step", steps=32),
    Case("2 GPUs, 16 conversations a step", batch_size=16, steps=32, ranks=2),
    Case("2 GPUs, 8 conversations a step", steps=32, ranks=2),
    Case("1 GPU, 44 conversations a step", batch_size=44, steps=16),
    Case(
        "fp8, 2 GPUs, 44 conversations a step",
        batch_size=44,
        steps=48,
        ranks=2,
        training={"precision": "fp8"},
    ),
    Case("fp8, 1 GPU, 22 conversations a step", batch_size=22, steps=48, training={"precision": "fp8"}),
    Case(
        "fp8, 2 GPUs, 22 conversations a step",
        batch_size=22,
        steps=48,
        ranks=2,
        training={"precision": "fp8"},
    ),
)
"""Two cards against one: with as much for each of them, and with the same for both."""
TINY: Final = (
    Case("auto", steps=4),
    Case("auto, 2 ranks", steps=4, ranks=2),
    Case("packing: tokens", batch_size=None, steps=4, training=IN_TOKENS),
    Case("1 × 2 padded", steps=4, training=PADDED, plan=TrainingPlan(Fit(2, 4, False))),
)
