"""Loss curves are held against the recipe's of the same seed, and that against the noise of two seeds."""

from pathlib import Path
from typing import Any, Final

import pytest

from bench.parity.compare import (
    FROM_EXACT,
    LARGEST,
    LOST,
    MEAN,
    NOISE,
    SHIFT,
    UNTIL,
    Curve,
    draw,
    paragraph,
    rows,
)

FIRST_SEED: Final = Curve("the recipe, in short", 1, [3.0, 2.0], [10, 30])
OTHER_SEED: Final = Curve("the recipe, in short", 2, [3.0, 2.4], [10, 30])
SAME: Final = "same conversations in each step"


def compared(*curves: Curve) -> dict[Any, dict[str, Any]]:
    """The rows by settings and seed."""
    return {(row["settings"], row["seed"]): dict(row) for row in rows(curves)}


def test_the_noise_is_how_far_the_recipes_seeds_are_from_each_other() -> None:
    noise = compared(FIRST_SEED, OTHER_SEED)[(NOISE, "1, 2")]
    assert (noise[MEAN], noise[LARGEST], noise[SHIFT], noise[SAME]) == (0.2, 0.4, 0.2, "yes")


def test_a_curve_is_held_against_the_recipes_of_its_own_seed() -> None:
    found = compared(FIRST_SEED, OTHER_SEED, Curve("auto", 2, [2.9, 2.5], [10, 30]))[("auto", 2)]
    assert (found[MEAN], found[LARGEST], found[SHIFT]) == (0.1, 0.1, 0.0)


def test_other_conversations_are_told() -> None:
    assert compared(FIRST_SEED, Curve("auto", 1, [3.0, 2.0], [12, 30]))[("auto", 1)][SAME] == "no"


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        pytest.param([3.0, 2.3], "Not above the noise of 0.2: auto with seed 1 (0.15)", id="within"),
        pytest.param([3.0, 2.5], "Above the noise of 0.2: auto with seed 1 (0.25)", id="above"),
    ],
)
def test_the_page_says_which_curves_are_within_the_noise(losses: list[float], verdict: str) -> None:
    assert verdict in paragraph(
        "parity.png", rows([FIRST_SEED, OTHER_SEED, Curve("auto", 1, losses, [10, 30])])
    )


def test_without_a_second_seed_there_is_no_verdict() -> None:
    assert "noise" not in paragraph("parity.png", rows([FIRST_SEED]))


def test_a_curve_without_the_recipes_beside_it_is_shown_alone() -> None:
    (row,) = rows([Curve("auto", 1, [3.0, 2.0], [10, 30])])
    assert MEAN not in row


@pytest.mark.parametrize(
    "curves",
    [[FIRST_SEED], [FIRST_SEED, OTHER_SEED, Curve("auto", 1, [3.0, 2.1], [10, 30])]],
    ids=["of the recipe's first seed alone", "of all"],
)
def test_a_picture_is_drawn(curves: list[Curve], tmp_path: Path) -> None:
    draw(curves, tmp_path / "parity.png")
    assert (tmp_path / "parity.png").stat().st_size > 0


def test_each_curve_is_held_against_the_one_in_fp32_too() -> None:
    exact = Curve("fp32, 8 × 1 padded", 1, [3.0, 2.1], [10, 30])
    auto = Curve("auto", 1, [3.0, 2.2], [10, 30])
    found = compared(FIRST_SEED, OTHER_SEED, auto, exact)
    assert found[("auto", 1)][FROM_EXACT] == found[(FIRST_SEED.settings, 1)][FROM_EXACT] == 0.05
    assert FROM_EXACT not in found[(OTHER_SEED.settings, 2)] | found[(exact.settings, 1)]
    told = paragraph("parity.png", rows([FIRST_SEED, auto, exact, OTHER_SEED]))
    assert "nearest first: the recipe, in short 0.05, auto 0.05." in told


def test_an_update_that_the_recipe_loses_parts_it_from_what_does_not() -> None:
    losing = [Curve("the recipe, in short", seed, [3.0, 2.0, 2.0], [10, 30, 40], [1]) for seed in (1, 2)]
    auto = Curve("auto", 1, [3.1, 1.5, 1.5], [10, 30, 40])
    found = compared(*losing, auto)
    assert found[(losing[0].settings, 1)][LOST] == "at step 1"
    assert (found[("auto", 1)][UNTIL], found[("auto", 1)][MEAN]) == (0.1, 0.36667)
    told = paragraph("parity.png", rows([*losing, auto]))
    assert "the recipe, in short with seed 2 at step 1." in told
    assert told.endswith("the mean distances were: auto with seed 1 0.1.")
