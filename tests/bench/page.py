"""Makes docs/performance.md of the results that the benchmarks left: `python -m bench.page`."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.operator.reach import paragraph as operator_note
from bench.parity.compare import paragraph as parity_note

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "performance.md"
TITLES: Final = {
    "local_run": "A run of the sample",
    "startup": "Start of the programs",
    "store": "The store against a plain copy",
    "images": "Size of the images",
    "prepare": "From rows to tokens, against LLaMA-Factory's own way",
    "train": "Training a 9.4-billion-parameter model",
    "held": "What a GPU is held for beside the steps, at 10 Gbit/s",
    "train_gpus": "Training it on two GPUs against one",
    "train_nodes": "Training it on two nodes, and with the base split",
    "parity": "Loss curves beside the recipe's, of the shape of GLM-4-9B on a GPU",
    "parity_fp16": "Loss curves in the recipe's own type of numbers",
    "parity_smollm2": "Loss curves beside the recipe's, of SmolLM2",
    "parity_smollm2_gpu": "Loss curves beside the recipe's, of SmolLM2 on a GPU",
    "update": "What a first update of an adapter does, by how numbers are rounded",
    "resume": "An interrupted training against one that was not, on a GPU",
    "export": "The merge of a model against a copy of its files",
    "memory": "The estimate of a training's memory on a card",
    "memory_pairs": "The same for preferences",
    "activations": "The estimate of what a token keeps, on a CPU",
    "operator": "The operator with thousands of runs",
}
NODES_NOTE: Final = (
    "The estimate is for the longest conversations of the dataset, as many as a step has, since it must hold "
    "for any step. The measured steps have conversations of all lengths; the numbers include what CUDA "
    "itself takes."
)
NOTES: Final[dict[str, Callable[[Sequence[Mapping[str, Any]]], str]]] = {
    "operator": operator_note,
    "train_nodes": lambda _: NODES_NOTE,
    **{name: partial(parity_note, f"{name}.png") for name in TITLES if name.startswith("parity")},
}
"""What follows from a table, by the name of its results."""
INTRODUCTION: Final = """# Performance

<!-- Generated from docs/results/ by `PYTHONPATH=tests python -m bench.page`. -->

Each table was printed by the command above it, on the machine named below it.
"""


def main() -> None:
    PAGE.write_text(page())


def page() -> str:
    """All results that are kept."""
    results = {ROOT / "docs" / "results" / f"{name}.json": title for name, title in TITLES.items()}
    parts = [section(title, path) for path, title in results.items() if path.exists()]
    return "\n".join([INTRODUCTION, *parts])


def section(title: str, path: Path) -> str:
    result: Mapping[str, Any] = json.loads(path.read_text())
    note = f"\n{NOTES[path.stem](result['rows'])}\n" if path.stem in NOTES else ""
    return f"## {title}\n\n{measured(result)}{note}"


def measured(result: Mapping[str, Any]) -> str:
    """The command, its table, and when and on what it ran."""
    hardware = ", ".join(f"{name} {value}" for name, value in result["hardware"].items())
    return (
        f"`{result['command']}`\n\n{table(result['rows'])}\n"
        f"{result['date']}, commit {result['commit']}; {hardware}.\n"
    )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, ["---"] * len(columns), *([str(row.get(c, "")) for c in columns] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
