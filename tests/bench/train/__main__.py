"""Trainings of a model of the shape of GLM-4-9B on one GPU: `python -m bench.train --data FILE`.

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
from bench.train.site import NINE_BILLION, TINY, Site, make

DATA: Final = Path(__file__).parents[3] / "samples" / "data" / "emollm" / "aiwei.json"
TOLD: Final = "fast paths"
TOLD_OF_A_FAILURE: Final = 25


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    gpus, cases = (0, cases_of.TINY) if options.tiny else (1, cases_of.CASES)
    deadline = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        site = make(Path(folder), TINY if options.tiny else NINE_BILLION, options.data, gpus)
        _say(f"the model is made, {deadline - time.monotonic():.0f} s are left")
        _say(f"relative errors on this card: {_agreement(gpus)}")
        sustained = sustained_flops(gpus)
        card: Row = {"settings": "matrix products alone", "TFLOP/s": round(sustained / 1e12, 1)}
        rows: list[Row] = []
        _give_back_memory()
        numbers = options.only or range(len(cases))
        workers = [_start(site, number) for number in numbers[:1]]
        for position, number in enumerate(numbers):
            worker = workers[position]
            workers += [_start(site, later) for later in numbers[position + 1 :][:1]]
            row = _finish(worker, sustained, deadline - time.monotonic())
            rows.append(row or {"settings": f"{cases[number].name}: not finished"})
            _say(_told(site.root, number, None if row else TOLD_OF_A_FAILURE))
            if options.tiny:
                _say(json.dumps(row))
            else:
                _write([*rows, card], options.copy)
            _say(f"{deadline - time.monotonic():.0f} s are left")
            if deadline < time.monotonic():
                break
        for worker in workers:
            worker.kill()


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.train")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--scratch", type=Path, help="where there are 25 GB")
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of cases")
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


def _start(site: Site, number: int) -> subprocess.Popen[str]:
    """A worker, importing while the one before it trains."""
    with _log(site.root, number).open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "bench.train.worker", str(site.root), str(site.gpus), str(number)],
            env=os.environ | {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def _finish(worker: subprocess.Popen[str], sustained: float, seconds: float) -> Row | None:
    """Its row; None where it failed or did not end in time."""
    try:
        output, _ = worker.communicate(f"{sustained}\n", timeout=max(seconds, 1))
    except subprocess.TimeoutExpired:
        worker.kill()
        return None
    row: Row | None = json.loads(output.splitlines()[-1]) if worker.returncode == 0 else None
    return row


def _write(rows: Sequence[Row], copy: Path | None) -> None:
    path = write_results("train", rows)
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
