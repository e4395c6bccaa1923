"""The loss curve as a picture. Drawn from the losses alone, so equal trainings have equal pictures."""

from collections.abc import Sequence
from pathlib import Path

from lorafinetune_stages.train.history import Row


def draw_loss(rows: Sequence[Row], path: Path, unit: str) -> None:
    """Writes a PNG. rows: of the metrics. unit: of what the loss is."""
    from matplotlib.figure import Figure  # takes a second to import

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for name, label in (("loss", "training"), ("eval_loss", "held-out rows")):
        points = [(row["step"], row[name]) for row in rows if name in row and "exported" not in row]
        if points:
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < 50 else "", label=label)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(f"loss in nats per {unit}")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Software": None})
