"""Loss curves of our settings beside the recipe's: `python -m bench.parity --model smollm2` (or glm9b…).

Each curve is a training by the stage itself, in a process of its own; table, curves and picture are written
after each, and what has not ended after `--seconds` is left out.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.parity.cases import SEEDS, trainings
from bench.parity.compare import Curve, draw, rows
from bench.parity.models import MODELS
from bench.results import RESULTS, table, write_results

TOLD_OF_A_FAILURE: Final = 25
SMALL_AT_ONCE: Final = 6
"""Trainings of a small model on one GPU, whose processes compile beside each other."""


@dataclass(frozen=True)
class Run:
    """root: of the site. deadline: of the monotonic clock."""

    root: Path
    model: str
    gpus: int
    steps: int
    deadline: float

    def groups(self) -> list[range]:
        """Numbers of the trainings that run at the same time. The recipe's leave most of a GPU unused, and
        two of them fit a card of 80 GB, or some of a small model. Nothing is timed here."""
        model = MODELS[self.model]
        count = len(trainings(self.gpus, self.steps, {}, model.in_fp16))
        first, more = (len(SEEDS), 1) if self.gpus else (1, 1)
        if self.gpus and model.is_small:
            first = more = SMALL_AT_ONCE
        return [range(first), *(range(at, min(at + more, count)) for at in range(first, count, more))]

    def curves(self) -> Iterator[Curve]:
        """As they end. The workers of a group import while the one before it trains, and those of the
        first while the model is made."""
        groups = self.groups()
        started = [self._start(groups[0])]
        self._make()
        for position in range(len(groups)):
            started += [self._start(group) for group in groups[position + 1 :][:1]]
            if time.monotonic() < self.deadline:
                yield from self._finish(started[position])
        for workers in started:
            for worker in workers.values():
                worker.kill()

    def _make(self) -> None:
        """In a process of its own, which gives all memory of the device back."""
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(MODELS[self.model].make, self.root, self.gpus).result()
        self._say("the model is made")

    def _start(self, numbers: range) -> dict[int, "subprocess.Popen[str]"]:
        return {number: self._worker(number) for number in numbers}

    def _worker(self, number: int) -> "subprocess.Popen[str]":
        settings = [str(self.root), str(self.gpus), self.model, str(self.steps), str(number)]
        with self._log(number).open("w") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "bench.parity.worker", *settings],
                env=os.environ | {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def _log(self, number: int) -> Path:
        return self.root / f"training{number}.log"

    def _finish(self, workers: dict[int, "subprocess.Popen[str]"]) -> Iterator[Curve]:
        for worker in workers.values():
            assert worker.stdin is not None
            worker.stdin.write("begin\n")
            worker.stdin.flush()
        for number, worker in workers.items():
            try:
                output, _ = worker.communicate(timeout=max(self.deadline - time.monotonic(), 1))
            except subprocess.TimeoutExpired:
                worker.kill()
                output = ""
            if worker.returncode == 0:
                yield Curve(**json.loads(output.splitlines()[-1]))
            else:
                said = self._log(number).read_text().splitlines()
                self._say("\n".join([f"training {number} did not end", *said[-TOLD_OF_A_FAILURE:]]))

    def _say(self, text: str) -> None:
        sys.stdout.write(f"{text}; {self.deadline - time.monotonic():.0f} s are left\n")
        sys.stdout.flush()


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    deadline = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        steps, gpus = options.steps or MODELS[options.model].steps, _gpus()
        curves: list[Curve] = []
        for curve in Run(Path(folder), options.model, gpus, steps, deadline).curves():
            curves.append(curve)
            write(options.model, gpus, curves, options.copy)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.parity")
    parser.add_argument("--model", choices=MODELS, default="smollm2")
    parser.add_argument("--steps", type=int, help="optimizer steps of each training")
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--scratch", type=Path, help="where there are 25 GB")
    parser.add_argument("--copy", type=Path, help="directory for a copy of the results")
    return parser.parse_args(arguments)


def _gpus() -> int:
    import torch

    return min(torch.cuda.device_count(), 1)


def write(model: str, gpus: int, curves: Sequence[Curve], copy: Path | None) -> None:
    """Table, curves and picture; of the tiny model the table alone, on the screen."""
    found, kept = rows(curves), [curve.kept() for curve in curves]
    if model == "glm9b":
        path = write_results("parity", found, curves=kept)
    elif model == "glm9b_fp16":
        path = write_results("parity_fp16", found, curves=kept)
    elif model == "smollm2" and gpus:
        path = write_results("parity_smollm2_gpu", found, curves=kept)
    elif model == "smollm2":
        path = write_results("parity_smollm2", found, curves=kept)
    else:
        Console().print(table(model, found))
        return
    picture = RESULTS / f"{path.stem}.png"
    draw(curves, picture)
    if copy:
        for made in (path, picture):
            shutil.copy(made, copy)


if __name__ == "__main__":
    main(sys.argv[1:])
