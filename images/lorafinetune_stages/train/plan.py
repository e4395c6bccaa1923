"""How a training is to run on this machine: decided before it starts, and kept in its lineage."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lorafinetune_stages.train.fit import Fit

if TYPE_CHECKING:
    from lorafinetune_stages.train.levers import Levers


@dataclass(frozen=True)
class TrainingPlan:
    """levers: absent where LLaMA-Factory trains as it is. nf4: the base is in 4 bits. shards: ranks that the
    frozen base is split over; 1 where each holds all of it."""

    fit: Fit
    levers: "Levers | None" = None
    nf4: bool = False
    shards: int = 1

    def refit(self, fit: Fit) -> "TrainingPlan":
        """The same with another cut. Layers that are computed twice are not captured as graphs."""
        levers = self.levers
        if levers and fit.gradient_checkpointing:
            levers = replace(levers, graphed=False)
        return replace(self, fit=fit, levers=levers)

    def facts(self) -> dict[str, Any]:
        return {
            "microBatch": self.fit.micro_batch,
            "packTokens": self.fit.pack_tokens,
            "gradientCheckpointing": self.fit.gradient_checkpointing,
            "estimatedBytes": self.fit.bytes,
            "nf4": self.nf4,
            "levers": self.levers.facts() if self.levers else None,
            **({"shards": self.shards} if self.shards > 1 else {}),
        }
