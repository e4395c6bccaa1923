"""The settings that the training benchmark compares: the recipe's, ours, and each lever for itself."""

from dataclasses import dataclass
from typing import Final

from lorafinetune_stages.train.fit import Fit
from lorafinetune_stages.train.levers import PLAIN, Levers

EIGHT: Final = 8
"""Conversations in a step of the recipe."""
FULL: Final = 23
"""Conversations in a step of about 8,192 tokens."""
AUTO: Final = Levers(packing=True, learned_loss=True, direct_lora=True, compiled=True)


@dataclass(frozen=True)
class Setting:
    """cut, levers: None is what the stage chooses for itself. warm_up: steps that are not counted."""

    name: str
    levers: Levers | None = None
    cut: Fit | None = None
    precision: str = "bf16"
    batch_size: int = EIGHT
    warm_up: int = 4
    steps: int = 12


WHOLE: Final = Fit(EIGHT, 1, gradient_checkpointing=False)
SETTINGS: Final = (
    Setting("the recipe as written", PLAIN, Fit(1, EIGHT, True), "fp16", warm_up=2, steps=4),
    Setting("bf16, one pass, nothing recomputed", PLAIN, WHOLE, steps=8),
    Setting("that and packing", Levers(packing=True), WHOLE),
    Setting("that and the loss where there is one", Levers(learned_loss=True), WHOLE),
    Setting("that and direct projections", Levers(direct_lora=True), WHOLE),
    Setting("that and all of these", Levers(packing=True, learned_loss=True, direct_lora=True), WHOLE),
    Setting("auto, recomputed", AUTO, Fit(EIGHT, 1, True), warm_up=8),
    Setting("auto", warm_up=8, steps=24),
    Setting("auto, 23 conversations a step", batch_size=FULL, warm_up=8, steps=16),
)
