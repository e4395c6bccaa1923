"""Loss curves against each other: the table, what follows from it, and the picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any, Final

from bench.results import Row

RECIPE: Final = "the recipe"
"""What the names of its settings begin with."""
EXACT: Final = "fp32"
"""What the name of the settings without a rounding worth the name begins with."""
LAST: Final = 10
NOISE: Final = "noise: the recipe's seed 2 against its seed 1"
MEAN: Final = "mean distance to the recipe"
FROM_EXACT: Final = "mean distance to fp32"
UNTIL: Final = "mean distance until the recipe's first lost update"
LOST: Final = "lost updates"
LARGEST: Final = "largest distance"
SHIFT: Final = f"difference of the last {LAST} steps"
DIGITS: Final = 5


@dataclass(frozen=True)
class Curve:
    """losses: of the steps, in nats per learned token. tokens: in all steps so far. lost: the steps whose
    gradient was no number, so that nothing was learned: in fp16, one that is too large for the scale."""

    settings: str
    seed: int
    losses: Sequence[float]
    tokens: Sequence[int]
    lost: Sequence[int] = ()

    @property
    def name(self) -> str:
        return f"{self.settings}, seed {self.seed}"

    @property
    def is_recipe(self) -> bool:
        return self.settings.startswith(RECIPE)

    def kept(self) -> dict[str, Any]:
        losses = [round(loss, DIGITS) for loss in self.losses]
        tokens = [after - before for before, after in pairwise([0, *self.tokens])]
        return {
            "settings": self.settings,
            "seed": self.seed,
            "losses": losses,
            "tokens": tokens,
            "lost": [*self.lost],
        }


def rows(curves: Sequence[Curve]) -> list[Row]:
    """A row for each curve, against the recipe's of its seed, and one for the noise; and how far each is
    from what no rounding moves, where that was drawn."""
    recipe = {curve.seed: curve for curve in curves if curve.is_recipe}
    noise = [
        {"settings": NOISE, "seed": "1, 2", **difference(after, before)}
        for before, after in pairwise(recipe.values())
    ]
    exact = {curve.seed: curve for curve in curves if curve.settings.startswith(EXACT)}
    compared = [
        {
            **_row(curve),
            **(difference(curve, recipe[curve.seed]) if curve.seed in recipe else {}),
            **_rounding(curve, exact),
        }
        for curve in curves
        if not curve.is_recipe
    ]
    return [*({**_row(curve), **_rounding(curve, exact)} for curve in recipe.values()), *noise, *compared]


def _rounding(curve: Curve, exact: Mapping[int, Curve]) -> Row:
    other = exact.get(curve.seed, curve)
    return {} if other is curve else {FROM_EXACT: round(mean(map(abs, _gaps(curve, other))), DIGITS)}


def _row(curve: Curve) -> Row:
    return {
        "settings": curve.settings,
        "seed": curve.seed,
        "loss at step 1": round(curve.losses[0], DIGITS),
        f"mean loss of the last {LAST} steps": round(mean(curve.losses[-LAST:]), DIGITS),
        **({LOST: _listed(curve.lost)} if curve.lost else {}),
    }


def _listed(steps: Sequence[int]) -> str:
    return f"at step {', '.join(map(str, steps))}"


def difference(curve: Curve, other: Curve) -> Row:
    """Step by step, and whether both saw as many tokens in each: the same conversations, that is."""
    gaps = _gaps(curve, other)
    return {
        MEAN: round(mean(map(abs, gaps)), DIGITS),
        **({UNTIL: round(mean(map(abs, gaps[: other.lost[0]])), DIGITS)} if other.lost else {}),
        LARGEST: round(max(map(abs, gaps)), DIGITS),
        SHIFT: round(mean(gaps[-LAST:]), DIGITS),
        "same conversations in each step": "yes" if curve.tokens == other.tokens else "no",
    }


def _gaps(curve: Curve, other: Curve) -> list[float]:
    return [here - there for here, there in zip(curve.losses, other.losses, strict=True)]


VERDICTS: Final = {True: "Not above the noise", False: "Above the noise"}


def paragraph(picture: str, table: Sequence[Mapping[str, Any]]) -> str:
    """What the table says. picture: its name, beside the results."""
    shown = f"![Loss curves, and how far each is from the recipe's](results/{picture})"
    noise = next((row for row in table if row["settings"] == NOISE), None)
    if noise is None:
        return shown
    compared = [row for row in table if row.get(MEAN, "") != "" and row is not noise]
    found = {
        verdict: [_told(row) for row in compared if within(row, noise) == verdict] for verdict in VERDICTS
    }
    told = [
        f"{VERDICTS[verdict]} of {noise[MEAN]}: {', '.join(names)}."
        for verdict, names in found.items()
        if names
    ]
    return (
        f"{shown}\n\nThe mean distance of each, step by step. {' '.join(told)}{_lost(table)}{_exactly(table)}"
    )


def _lost(table: Sequence[Mapping[str, Any]]) -> str:
    """Who lost updates, and how far apart the curves were before; empty where nobody did."""
    told = [f"{_named(row)} {row[LOST]}" for row in table if row.get(LOST)]
    if not told:
        return ""
    before = [f"{_named(row)} {row[UNTIL]}" for row in table if row.get(UNTIL)]
    return (
        f" An update is lost where the gradient is too large for its numbers: {', '.join(told)}. Until the "
        f"recipe first lost one, the mean distances were: {', '.join(before)}."
    )


def _exactly(table: Sequence[Mapping[str, Any]]) -> str:
    """How far from fp32 each is, nearest first; empty where that was not drawn."""
    found = sorted((row for row in table if row.get(FROM_EXACT, "") != ""), key=lambda row: row[FROM_EXACT])
    told = [f"{row['settings']} {row[FROM_EXACT]}" for row in found]
    return (
        f" From the curve in fp32, which no rounding moves, nearest first: {', '.join(told)}." if told else ""
    )


def _told(row: Mapping[str, Any]) -> str:
    return f"{_named(row)} ({row[MEAN]})"


def _named(row: Mapping[str, Any]) -> str:
    return str(row["settings"]) if row["settings"] == NOISE else f"{row['settings']} with seed {row['seed']}"


def within(row: Mapping[str, Any], noise: Mapping[str, Any]) -> bool:
    return bool(row[MEAN] <= noise[MEAN])


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Writes a PNG: the curves, and below them their distances to the recipe's."""
    from matplotlib.figure import Figure  # takes a second to import

    figure = Figure(figsize=(8, 7), dpi=120, layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    recipe = {curve.seed: curve for curve in curves if curve.is_recipe}
    for number, curve in enumerate(curves):
        _plot(above, curve.losses, curve.name, f"C{number}")
        if not curve.is_recipe and curve.seed in recipe:
            gaps = _gaps(curve, recipe[curve.seed])
            _plot(below, [abs(gap) for gap in gaps], curve.name, f"C{number}")
    for before, after in pairwise(recipe.values()):
        noise = [abs(gap) for gap in _gaps(after, before)]
        below.fill_between(range(1, len(noise) + 1), noise, color="0.85", label=NOISE)
    above.set_ylabel("loss in nats per learned token")
    below.set_ylabel("distance to the recipe's, same seed")
    below.set_xlabel("optimizer step")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="small")
    figure.savefig(path, metadata={"Software": None})


def _plot(axes: Any, values: Sequence[float], label: str, color: str) -> None:
    steps = range(1, len(values) + 1)
    axes.plot(steps, values, marker="." if len(values) < 50 else "", label=label, color=color)
