"""Pages that quote a measurement say what the kept table says."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]


def rows(name: str) -> dict[str, dict[str, Any]]:
    """Of a result, by what their first column says."""
    kept = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())["rows"]
    return {next(iter(row.values())): row for row in kept}


TRAIN: Final = rows("train")
NODES: Final = rows("train_nodes")
CARDS: Final = rows("train_gpus")
SMALL: Final = {
    (row["settings"], row["seed"]): row["mean loss of the last 10 steps"]
    for row in json.loads((ROOT / "docs" / "results" / "parity_smollm2_gpu.json").read_text())["rows"]
    if "mean loss of the last 10 steps" in row
}
MANY: Final = ", 22 conversations a step"


def rate(settings: str) -> int:
    return int(TRAIN[settings]["tokens/s"])


def percent(settings: str, other: str) -> int:
    """How fast one is, of the other."""
    return round(100 * rate(settings) / rate(other))


def span(one: float, other: float) -> str:
    return " to ".join(f"{value:,}" for value in sorted((one, other)))


def hundreds(settings: str) -> int:
    return round(rate(settings), -2)


NF4: Final = span(percent("nf4", "auto"), percent("nf4" + MANY, "auto" + MANY))
SENTENCES: Final = (
    (
        "CHANGELOG.md",
        f"{percent('fp8', 'auto') - 100} % faster with 8 conversations in a step, and "
        f"{percent('fp8' + MANY, 'auto' + MANY) - 100} % with 22",
    ),
    ("CHANGELOG.md", f"trained at {NF4} % of the speed of bf16"),
    ("docs/limits.md", f"with the shape of GLM-4-9B alone, at {NF4} % of the speed of bf16"),
    (
        "docs/how-to/gpus.md",
        f"it trains at {span(hundreds('nf4'), hundreds('nf4' + MANY))} tokens a second, where bf16 reaches "
        f"{span(hundreds('auto'), hundreds('auto' + MANY))}",
    ),
    (
        "docs/how-to/gpus.md",
        f"trained {NODES['2 nodes with a GPU each']['tokens/s'] / NODES['1 GPU']['tokens/s']:.2f} times as "
        "fast as one",
    ),
    (
        "docs/how-to/gpus.md",
        f"Two H200 of one node were "
        f"{NODES['2 GPUs of one node']['tokens/s'] / NODES['1 GPU']['tokens/s']:.2f} times as fast",
    ),
    (
        "docs/design/training-speed.md",
        f"The table, of an H200, has {rate('fp8'):,} tokens a second with 8 conversations a step and "
        f"{rate('fp8' + MANY):,} with 22",
    ),
    (
        "docs/design/differences.md",
        f"({TRAIN['matrix products alone']['TFLOP/s']:.0f} TFLOP/s in bare products",
    ),
    *(
        (page, sentence)
        for gap in [sorted(round(SMALL["fp8", seed] - SMALL["auto", seed], 3) for seed in (1, 2))]
        for page, sentence in (
            ("docs/limits.md", f"at a loss {gap[0]} and {gap[1]} above that in bf16"),
            (
                "docs/design/training-speed.md",
                f"ends {gap[0]} and {gap[1]} above it, with either of two seeds",
            ),
        )
    ),
    *(
        (page, f"{round(SMALL['nf4', 1] - SMALL['auto', 1], 2)} above {what}")
        for page, what in (("docs/limits.md", "that in bf16"), ("docs/design/training-speed.md", "it"))
    ),
)


@pytest.mark.parametrize(("page", "sentence"), SENTENCES)
def test_a_page_quotes_the_table(page: str, sentence: str) -> None:
    assert sentence in " ".join((ROOT / page).read_text().split())
