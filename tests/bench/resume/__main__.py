"""How far a training that was interrupted ends from one that was not: `python -m bench.resume`.

A GPU adds in another order each time, so two trainings alike end apart too: that is the noise which the
interrupted one is held against. On the CPU all three end alike, to the bit. Each is a training by the stage
itself, in a process of its own; the interrupted one goes on in another.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from bench.results import Row, table, write_results
from bench.resume.worker import case
from bench.train.__main__ import DATA
from bench.train.site import NINE_BILLION, TINY, Site, make
from lorafinetune.contract import keys
from lorafinetune.contract.arguments import METRICS, place
from lorafinetune_stages.train.adapter import WEIGHTS
from stages.train_builders import stand_in

WHOLE: Final = "never interrupted"
AGAIN: Final = "the same again"
INTERRUPTED: Final = "interrupted in the middle, gone on in another process"
PRECISIONS: Final = ("bf16", "fp8")


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    gpus = 0 if options.tiny else 1
    precisions = PRECISIONS[:1] if options.tiny else PRECISIONS
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        site = _site(Path(folder), gpus)
        rows = [row for precision in precisions for row in compared(site, precision, options.steps)]
    if options.tiny:
        Console().print(table("resume", rows))
    else:
        write_results("resume", rows)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.resume")
    parser.add_argument("--steps", type=int, default=24, help="optimizer steps; the cut is in the middle")
    parser.add_argument("--scratch", type=Path, help="where there are 25 GB")
    parser.add_argument("--tiny", action="store_true", help="on the CPU, to see that it works")
    return parser.parse_args(arguments)


def _site(root: Path, gpus: int) -> Site:
    """Made in a process of its own, which gives all memory of the device back."""
    shape = NINE_BILLION if gpus else TINY
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(make, root, shape, DATA, gpus).result()


def compared(site: Site, precision: str, steps: int) -> list[Row]:
    """Each against the one that was never interrupted."""
    for name, cuts in {WHOLE: [0], AGAIN: [0], INTERRUPTED: [steps // 2, 0]}.items():
        for cut in cuts:
            _attempt(site, name, precision, steps, cut)
    whole = _left(site, WHOLE, precision, steps)
    return [
        {
            "training": name,
            "precision": precision,
            "steps": steps,
            **distance(_left(site, name, precision, steps), whole),
        }
        for name in (AGAIN, INTERRUPTED)
    ]


def _attempt(site: Site, *settings: str | int) -> None:
    command = [sys.executable, "-m", "bench.resume.worker", str(site.root), str(site.gpus)]
    subprocess.run([*command, *map(str, settings)], check=True)


def _left(site: Site, name: str, precision: str, steps: int) -> Path:
    key = keys.digest(case(name, precision, steps).name)
    return stand_in(site.root).root / place("trainings", key)


def distance(one: Path, other: Path) -> Row:
    """one, other: finished trainings."""
    gaps = [abs(here - there) for here, there in zip(_losses(one), _losses(other), strict=True)]
    return {
        "distance of the adapters": _apart(one, other),
        "mean distance of the losses": round(sum(gaps) / len(gaps), 6),
        "largest": round(max(gaps), 6),
    }


def _losses(training: Path) -> list[float]:
    logged: list[Mapping[str, Any]] = [
        json.loads(line) for line in (training / METRICS).read_text().splitlines()
    ]
    return [line["loss"] for line in logged]


def _apart(one: Path, other: Path) -> float:
    """The norm of their difference, over that of the other's weights."""
    from safetensors.torch import load_file

    here, there = (load_file(next(each.rglob(WEIGHTS))) for each in (one, other))
    difference = sum(float((here[name] - there[name]).square().sum()) for name in there)
    return float(f"{(difference / sum(float(each.square().sum()) for each in there.values())) ** 0.5:.2g}")


if __name__ == "__main__":
    main(sys.argv[1:])
