"""Pages that quote a measurement say what the kept table says."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from lorafinetune.contract import memory

ROOT: Final = Path(__file__).parents[2]


def rows(name: str) -> dict[str, dict[str, Any]]:
    """Of a result, by what their first column says."""
    kept = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())["rows"]
    return {next(iter(row.values())): row for row in kept}


TRAIN: Final = rows("train")
NODES: Final = rows("train_nodes")
CARDS: Final = rows("train_gpus")
HELD: Final = rows("held")
SMALL: Final = {
    (row["settings"], row["seed"]): row["mean loss of the last 10 steps"]
    for row in json.loads((ROOT / "docs" / "results" / "parity_smollm2_gpu.json").read_text())["rows"]
    if "mean loss of the last 10 steps" in row
}
PREPARE: Final = json.loads((ROOT / "docs" / "results" / "prepare.json").read_text())["rows"]
LARGE: Final = [row for row in PREPARE if row["rows"] == "5120 MiB"]
MEMORY: Final = json.loads((ROOT / "docs" / "results" / "memory.json").read_text())["rows"]
OVER: Final = sorted(row["estimate over measured %"] for row in MEMORY)
MANY: Final = ", 22 conversations a step"
RECIPE: Final = "the recipe as written: fp16, 8 × 1 padded, recomputed"


def rate(settings: str) -> int:
    return int(TRAIN[settings]["tokens/s"])


def percent(settings: str, other: str) -> int:
    """How fast one is, of the other."""
    return round(100 * rate(settings) / rate(other))


def span(one: float, other: float) -> str:
    return " to ".join(f"{value:,}" for value in sorted((one, other)))


def hundreds(settings: str) -> int:
    return round(rate(settings), -2)


def speedups(what: str) -> tuple[float, ...]:
    """How many times as fast as the peer we make tokens of such rows."""
    return tuple(row["× the peer"] for row in PREPARE if row["rows"].startswith(what) and row["× the peer"])


def of_one_card(settings: str, one: str) -> str:
    """How many times as fast two cards are as one."""
    times = (
        CARDS[f"{settings} conversations a step"]["tokens/s"]
        / CARDS[f"{one} conversations a step"]["tokens/s"]
    )
    return f"{times:.2f} times"


NF4: Final = span(percent("nf4", "auto"), percent("nf4" + MANY, "auto" + MANY))
SENTENCES: Final = (
    (
        "CHANGELOG.md",
        f"{percent('fp8', 'auto') - 100} % faster with 8 conversations in a step, and "
        f"{percent('fp8' + MANY, 'auto' + MANY) - 100} % with 22",
    ),
    (
        "CHANGELOG.md",
        "at {:.0f} % of what a network of 10 Gbit/s carries".format(
            100
            * HELD["downloading the model and the dataset"]["MB/s"]
            / HELD["limit: the network into memory"]["MB/s"]
        ),
    ),
    ("CHANGELOG.md", f"trained at {NF4} % of the speed of bf16"),
    ("docs/limits.md", f"with the shape of GLM-4-9B alone, at {NF4} % of the speed of bf16"),
    (
        "docs/how-to/gpus.md",
        f"it trains at {span(hundreds('nf4'), hundreds('nf4' + MANY))} tokens a second, where bf16 reaches "
        f"{span(hundreds('auto'), hundreds('auto' + MANY))}",
    ),
    (
        "docs/limits.md",
        f"{min(speedups('aiwei'))} to {max(speedups('aiwei'))} times as fast as with LLaMA-Factory if they "
        "are long",
    ),
    (
        "docs/limits.md",
        "Short rows are {:.0f} and {:.0f} times as fast, and short rows that hardly repeat {:.0f} and "
        "{:.1f} times".format(*speedups("100000 short"), *speedups("100000 that")),
    ),
    ("docs/limits.md", f"a dataset of 5 GB took {max(row['peak MB'] for row in LARGE) / 1000:.1f} GB in all"),
    ("docs/limits.md", f"the estimate was {OVER[0]:.0f} to {OVER[-1]:.0f} % above the most memory"),
    (
        "docs/limits.md",
        f"{100 * memory.RESERVED_SHARE:.0f} % of that card and {memory.RESERVE / memory.GIB:.0f} GiB are "
        "left free",
    ),
    ("docs/design/differences.md", f"JSON Lines at {LARGE[0]['MB/s']:.0f} MB/s,"),
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
        "docs/design/differences.md",
        f"Two GPUs are {of_one_card('2 GPUs, 22', '1 GPU, 22')} as fast as one with the same step of 22",
    ),
    ("docs/design/differences.md", f"{of_one_card('2 GPUs, 8', '1 GPU, 8')} with 8"),
    (
        "docs/design/differences.md",
        f"44 conversations, they are {of_one_card('2 GPUs, 44', '1 GPU, 22')} as fast",
    ),
    (
        "docs/design/differences.md",
        "In FP8 both are {} and {} as fast".format(
            of_one_card("fp8, 2 GPUs, 22", "fp8, 1 GPU, 22").removesuffix(" times"),
            of_one_card("fp8, 2 GPUs, 44", "fp8, 1 GPU, 22"),
        ),
    ),
    (
        "docs/design/training-speed.md",
        f"The table, of an H200, has {rate('fp8'):,} tokens a second with 8 conversations a step and "
        f"{rate('fp8' + MANY):,} with 22",
    ),
    (
        "docs/design/differences.md",
        f"in bf16, where there are {rate('auto' + MANY):,} and {rate('auto'):,}, and 22,000 and 18,000 in "
        f"FP8, where there are {rate('fp8' + MANY):,} and {rate('fp8'):,}",
    ),
    (
        "docs/design/differences.md",
        f"reaches {rate(RECIPE)} on the same card, where some 900 were expected, so that `auto` is "
        f"{rate('auto') / rate(RECIPE):.0f} times as fast",
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
