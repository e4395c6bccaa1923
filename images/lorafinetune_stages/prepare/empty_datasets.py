"""What is said of datasets and splits of which nothing is left, once their tokens are made."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lorafinetune.api.reasons import Reason
from lorafinetune.api.training import Training
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.report import SplitSummary


@dataclass(frozen=True)
class RowUsage:
    """Rows of every dataset: `there` after duplicates were left out, of these `chosen`, of these `used`."""

    there: Sequence[int]
    chosen: Sequence[int]
    used: Sequence[int]

    def told_unused(self, training: Training) -> Iterator[str]:
        """Which datasets contribute nothing, by what has left them out."""
        found: dict[str, list[str]] = {}
        for index, used in enumerate(self.used):
            if not used:
                found.setdefault(self._why(index, training), []).append(f"datasets[{index}]")
        for why, datasets in found.items():
            yield f"no row is used of {', '.join(datasets)}: {why}"

    def _why(self, index: int, training: Training) -> str:
        if not self.there[index]:
            return "all equal earlier ones, which training.deduplicate leaves out"
        if self.chosen[index]:
            return "all that were chosen are bad"
        if training.sampling == "proportional":
            return "too small a share for one row: see weight and training.maxSamples"
        return "see training.maxSamples and training.sampling"


def too_short(split: SplitSummary, purpose: str, cutoff: int) -> StageError:
    """Of texts that make no example. purpose: like `train on`."""
    return StageError(
        Reason.DATASET_INVALID,
        f"datasets: {split.rows} texts of {split.left_tokens} tokens in all fill no row of "
        f"training.cutoffLength {cutoff} to {purpose}",
        "Lower `training.cutoffLength`, or add texts.",
    )
