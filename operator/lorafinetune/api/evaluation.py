"""How a training is judged: by rows that it does not learn from."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lorafinetune.api.datasets import Samples
from lorafinetune.api.types import DecimalString, Fraction, Label, Model, Rule


class Gate(Model):
    """By how much the tuned model must be better than its base, before anything is made of it."""

    metric: Literal["evalLoss"] = "evalLoss"
    """What is compared: the loss of what would be exported on the held-out rows, with the base's on the same
    rows."""
    must_improve_by: DecimalString
    """By how much it must be below the base's, in nats per learned token or per pair: `"0.02"`."""


class Evaluation(Model):
    """Evaluation on rows that are held out of training."""

    rules: ClassVar = (
        Rule(
            "[has(self.fraction), has(self.count), has(self.dataset)].exists_one(given, given)",
            "give one of fraction, count and dataset",
        ),
        Rule(
            "!has(self.fraction) || (double(self.fraction) > 0.0 && double(self.fraction) < 1.0)",
            "fraction must be above 0, and below 1",
            ".fraction",
        ),
        Rule("!has(self.groupBy) || !has(self.dataset)", "groupBy needs fraction or count", ".groupBy"),
    )

    fraction: Fraction | None = None
    """Share of the rows that is held out."""
    count: Samples | None = None
    """Number of rows that are held out."""
    dataset: Label | None = None
    """Name of the dataset whose rows are all held out; none of them counts as a sample."""
    group_by: Literal["prompt"] | None = None
    """`prompt`: rows with equal prompts are held out together or not at all. Absent: each row by itself.
    How many rows have a prompt that is on both sides is counted in any case."""
    every_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Optimizer steps between two evaluations."""
    gate: Gate | None = None
    """Export and publish only a model that passes. Editing it trains nothing again. Absent: every model."""
