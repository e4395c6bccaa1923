"""Trainings of a model of the shape of GLM-4-9B on one GPU, or on two (`--gpus 2`): `python -m bench.train`.

Each case is a training by the stage itself, in a process of its own; the rows are written after each, and
after `--seconds` no other is begun.
"""

import argparse
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.results import Row, write_results
from bench.train import cases as cases_of
from bench.train.card import agreement, gradient_error, sustained_flops
from bench.train.cases import Case
from bench.train.site import NINE_BILLION, TINY, Site, make
from lorafinetune_stages.train.device import VISIBLE_GPUS

DATA: Final = Path(__file__).parents[3] / "samples" / "data" / "emollm" / "aiwei.json"
TOLD: Final = "fast paths"
TOLD_OF_A_FAILURE: Final = 25
ENDING_SECONDS: Final = 60

Team = list[subprocess.Popen[str]]
"""The workers of one case."""


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    gpus = 0 if options.tiny else 1
    table = "TINY" if options.tiny else "SEVERAL" if options.gpus > 1 else "CASES"
    cases: Sequence[Case] = getattr(cases_of, table)
    deadline = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        site = make(Path(folder), TINY if options.tiny else NINE_BILLION, options.data, gpus)
        _say(f"the model is made, {deadline - time.monotonic():.0f} s are left")
        errors = _agreement(gpus)
        _say(f"relative errors on this card: {errors}")
        sustained = sustained_flops(gpus)
        card: Row = {"settings": "matrix products alone", "TFLOP/s": round(sustained / 1e12, 1)}
        rows: list[Row] = []
        _give_back_memory()
        numbers = options.only or range(len(cases))
        teams = [start(site, table, number) for number in numbers[:1]]
        for position, number in enumerate(numbers):
            teams += [start(site, table, later) for later in numbers[position + 1 :][:1]]
            row = finish(teams[position], sustained, deadline - time.monotonic())
            rows.append(row or {"settings": f"{cases[number].name}: not finished"})
            _say(_told(site.root, number, None if row else TOLD_OF_A_FAILURE))
            if options.tiny:
                _say(json.dumps(row))
            else:
                _write(options.gpus, [*rows, card], errors, options.copy)
            _say(f"{deadline - time.monotonic():.0f} s are left")
            if deadline < time.monotonic():
                break
        for worker in (worker for team in teams for worker in team):
            worker.kill()


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.train")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--scratch", type=Path, help="where there are 25 GB")
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of cases")
    parser.add_argument("--gpus", type=int, choices=(1, 2), default=1, help="2: two cards against one")
    parser.add_argument("--tiny", action="store_true", help="on the CPU, to see that it works")
    parser.add_argument("--copy", type=Path, help="directory for a copy of the results")
    return parser.parse_args(arguments)


def _agreement(gpus: int) -> str:
    """A card on which the fast paths fail is measured all the same."""
    try:
        return json.dumps(agreement() if gpus else gradient_error(gpus))
    except Exception as problem:
        return f"not known, {type(problem).__name__}: {problem}"


def _log(site: Path, number: int) -> Path:
    return site / f"case{number}.log"


def _told(site: Path, number: int, last: int | None) -> str:
    """What a worker said of its fast paths, or the last lines of all that it said."""
    lines = _log(site, number).read_text().splitlines()
    return "\n".join(lines[-last:] if last else [line for line in lines if TOLD in line])


def start(site: Site, table: str, number: int) -> Team:
    """The workers of a case, one a rank, importing while those before them train."""
    ranks = range(getattr(cases_of, table)[number].ranks)
    return [_worker(site, table, number, rank) for rank in ranks]


def _worker(site: Site, table: str, number: int, rank: int) -> subprocess.Popen[str]:
    cards = os.environ.get(VISIBLE_GPUS, "0,1").split(",")
    own = {
        VISIBLE_GPUS: cards[rank] if site.gpus else "",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    }
    given = (site.root, site.gpus, table, number, rank)
    with _log(site.root, number).open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "bench.train.worker", *map(str, given)],
            env=os.environ | own,
            stdin=subprocess.PIPE,
            stdout=log if rank else subprocess.PIPE,
            stderr=log,
            text=True,
        )


def finish(team: Team, sustained: float, seconds: float) -> Row | None:
    """The row of the first rank; None where one failed or did not end in time."""
    try:
        for worker in team[1:]:
            assert worker.stdin
            worker.stdin.write(f"{sustained}\n")
            worker.stdin.flush()
        output, _ = team[0].communicate(f"{sustained}\n", timeout=max(seconds, 1))
        for worker in team[1:]:
            worker.wait(timeout=ENDING_SECONDS)
    except (subprocess.TimeoutExpired, BrokenPipeError):
        for worker in team:
            worker.kill()
        return None
    failed = any(worker.returncode for worker in team)
    row: Row | None = None if failed else json.loads(output.splitlines()[-1])
    return row


def _write(gpus: int, rows: Sequence[Row], errors: str, copy: Path | None) -> None:
    """errors: relative ones, of the fast paths on this card."""
    if gpus == 1:
        path = write_results("train", rows, errors=errors)
    else:
        path = write_results("train_gpus", rows, errors=errors)
    if copy:
        shutil.copy(path, copy)


def _give_back_memory() -> None:
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
