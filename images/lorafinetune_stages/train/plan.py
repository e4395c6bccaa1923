"""How a training is to run on this machine: decided before it starts, and kept in its lineage as it ran."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lorafinetune_stages.train.fit import Fit

if TYPE_CHECKING:
    from lorafinetune_stages.train.optimizations import Optimizations


@dataclass(frozen=True)
class TrainingPlan:
    """optimizations: absent where LLaMA-Factory trains as it is. nf4: the base is in 4 bits. shards: ranks
    that the frozen base is split over; 1 where each holds all of it."""

    fit: Fit
    optimizations: "Optimizations | None" = None
    nf4: bool = False
    shards: int = 1

    def refit(self, fit: Fit) -> "TrainingPlan":
        """The same with another cut. Layers that are computed twice are not captured as graphs."""
        plan = replace(self, fit=fit)
        return plan.without_graphs() if fit.gradient_checkpointing else plan

    def without_graphs(self) -> "TrainingPlan":
        optimizations = self.optimizations and replace(self.optimizations, graphed=False)
        return replace(self, optimizations=optimizations)

    def facts(self) -> dict[str, Any]:
        return {
            "microBatch": self.fit.micro_batch,
            "packTokens": self.fit.pack_tokens,
            "gradientCheckpointing": self.fit.gradient_checkpointing,
            "estimatedBytes": self.fit.bytes,
            "nf4": self.nf4,
            "optimizations": self.optimizations.facts() if self.optimizations else None,
            **({"shards": self.shards} if self.shards > 1 else {}),
        }
