"""How a training is to run on this machine: decided before it starts, and kept in its lineage."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorafinetune_stages.train.fit import Fit

if TYPE_CHECKING:
    from lorafinetune_stages.train.levers import Levers


@dataclass(frozen=True)
class Plan:
    """levers: absent where LLaMA-Factory trains as it is."""

    fit: Fit
    levers: "Levers | None" = None

    def facts(self) -> dict[str, Any]:
        return {
            "microBatch": self.fit.micro_batch,
            "packTokens": self.fit.pack_tokens,
            "gradientCheckpointing": self.fit.gradient_checkpointing,
            "estimatedBytes": self.fit.bytes,
            "levers": self.levers.facts() if self.levers else None,
        }
