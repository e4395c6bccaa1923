"""Whether a training can fit the declared card and disk, and what it will take: refused here, on a CPU,
with the smallest change that fits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from lorafinetune.api.quantity import amount
from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import DatasetStatus, Estimate
from lorafinetune.api.training import Training
from lorafinetune.contract import effort, memory
from lorafinetune.contract.arguments import PrepareArguments
from lorafinetune.contract.keys import resolved_batch_size
from lorafinetune.contract.memory import GIB, MemorySettings, ModelShape, StepCut
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.recommendations import Recommendations, SettingsOf

MOST_SECONDS: Final = 2**53


@dataclass(frozen=True)
class Feasibility:
    """One training on a model of a shape, with prepared rows.

    settings_of: what of a training on this model counts for its memory. longest: tokens of the longest rows,
    from the longest on. packs: that the rows fill, where a step is of tokens. eval_tokens: of all held-out
    rows.
    """

    arguments: PrepareArguments
    shape: ModelShape
    settings_of: SettingsOf
    rows: DatasetStatus
    longest: Sequence[int]
    packs: int | None = None
    eval_tokens: int = 0

    def prove(self) -> Estimate:
        """What the training will take. Raises StageError where it can't fit."""
        cut = self._cut()
        disk = self._disk()
        training, evaluating = self._seconds(cut)
        return Estimate(
            steps=effort.steps(self.arguments.training, self._epoch),
            packs=self.packs,
            seconds=min(MOST_SECONDS, int(training + evaluating)),
            evaluating_seconds=min(MOST_SECONDS, int(evaluating)),
            gpu_memory=cut.estimate.total if cut else None,
            micro_batch=cut.micro_batch if cut else None,
            gradient_checkpointing=cut.gradient_checkpointing if cut else None,
            disk=disk,
        )

    @cached_property
    def _settings(self) -> MemorySettings:
        return self._settings_of(self.arguments.training)

    def _settings_of(self, training: Training) -> MemorySettings:
        settings = self.settings_of(training)
        if self.arguments.sharding is None:
            return settings
        return replace(settings, shards=max(self._gpus, 1), compiled=False)

    @property
    def _share(self) -> int:
        """Rows of a step on one device."""
        rows = memory.step_rows(self.arguments.training, self.longest)
        return -(-rows // max(self._gpus, 1))

    @property
    def _gpus(self) -> int:
        """Of all nodes."""
        return self.arguments.gpu.count * (self.arguments.nodes or 1)

    @property
    def _epoch(self) -> int:
        """Steps of one pass over all rows."""
        return self.packs or math.ceil(self.rows.rows / self._batch_size)

    @property
    def _batch_size(self) -> float:
        """Rows of a step, in the mean where it is of tokens."""
        rows, size = self.rows.rows, resolved_batch_size(self.arguments.training)
        return min(size, rows) if size else rows / (self.packs or 1)

    def _cut(self) -> StepCut | None:
        """Absent where no card is asked for, or its memory is not declared."""
        gpu = self.arguments.gpu
        if not gpu.count or gpu.memory is None:
            return None
        available = memory.usable(int(amount(gpu.memory)))
        cut = memory.choose(self.shape, self._settings, self.longest, self._share, available)
        if cut is None:
            raise self._too_large(available)
        return cut

    def _too_large(self, available: int) -> StageError:
        least = memory.smallest(self.shape, self._settings, self.longest, self._share)
        peak = least.estimate
        parts = {"weights": peak.weights, "adapter and optimizer": peak.adapter}
        parts |= {"activations": peak.activations, "logits": peak.logits}
        row = "pair" if self._settings.pairs else "row"
        said = ", ".join(f"{name} {_gib(size)}" for name, size in parts.items() if size)
        return StageError(
            Reason.CUDA_OUT_OF_MEMORY,
            f"resources.train.gpu.memory: the training needs {_gib(peak.total)} at its longest {row} of "
            f"{least.tokens} tokens ({said}), with one row at a time and activations computed twice; "
            f"of {self.arguments.gpu.memory} it can use {_gib(available)}",
            f"Set {', or '.join(self._recommendations(available).suggestions())}.",
        )

    def _recommendations(self, available: int) -> Recommendations:
        return Recommendations(
            self.arguments.training,
            self.arguments.datasets,
            self.shape,
            self._settings_of,
            self.longest,
            self.rows.rows,
            self._share,
            available,
        )

    def _disk(self) -> int:
        base, scratch = self.arguments.model.bytes, self.arguments.scratch
        needed = effort.disk(base, self.rows.tokens + self.eval_tokens, self.shape.adapter)
        if needed > amount(scratch):
            raise StageError(
                Reason.DISK_FULL,
                f"resources.train.scratch: the training needs {_gib(needed)} of disk, {_gib(base)} of it "
                f"for the base model, and {scratch} are declared",
                f"Set `spec.resources.train.scratch: {-(-needed // GIB)}Gi`.",
            )
        return needed

    def _seconds(self, cut: StepCut | None) -> tuple[float, float]:
        rows, training = self.rows, self.arguments.training
        steps = effort.steps(training, self._epoch)
        trained = int(rows.tokens / rows.rows * self._batch_size * steps)
        evaluated = self.eval_tokens * effort.evaluations(training, steps)
        multiplied = self.shape.parameters - self.shape.hidden * self.shape.vocabulary
        recomputed = cut.gradient_checkpointing if cut else False
        compared = self._settings.pairs
        rate = effort.rate(training, self._settings, self._gpus)
        return effort.seconds(multiplied, trained, evaluated, recomputed, rate, compared)


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
