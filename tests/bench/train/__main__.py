"""Trainings of a model of the shape of GLM-4-9B on one GPU: `python -m bench.train --data FILE`.

Each case is a training by the stage itself, in a process of its own; the rows are written after each, and
after `--seconds` no other is begun.
"""

import argparse
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
from bench.train.card import agreement, sustained_flops
from bench.train.cases import CASES
from bench.train.site import NINE_BILLION, make

DATA: Final = Path(__file__).parents[3] / "samples" / "data" / "emollm" / "aiwei.json"


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    deadline = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        make(Path(folder), NINE_BILLION, options.data, gpus=1)
        _say(f"the model is made, {deadline - time.monotonic():.0f} s are left")
        _say(json.dumps({"relative errors on this card": agreement()}))
        sustained = sustained_flops(gpus=1)
        rows: list[Row] = [{"settings": "matrix products alone", "TFLOP/s": round(sustained / 1e12, 1)}]
        _give_back_memory()
        numbers = options.only or range(len(CASES))
        workers = [_start(Path(folder), number, options.log) for number in numbers[:1]]
        for position, number in enumerate(numbers):
            worker = workers[position]
            workers += [_start(Path(folder), later, options.log) for later in numbers[position + 1 :][:1]]
            row = _finish(worker, sustained, deadline - time.monotonic())
            rows.append(row or {"settings": f"{CASES[number].name}: not finished"})
            _write(rows, options.copy)
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
    parser.add_argument("--copy", type=Path, help="directory for copies of results and logs")
    options = parser.parse_args(arguments)
    options.log = options.copy or Path(tempfile.gettempdir())
    return options


def _start(site: Path, number: int, logs: Path) -> subprocess.Popen[str]:
    """A worker, importing while the one before it trains."""
    with (logs / f"case{number}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "bench.train.worker", str(site), "1", str(number)],
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

    torch.cuda.empty_cache()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
