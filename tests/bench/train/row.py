"""One setting in a process of its own: `python -m bench.train.row DIRECTORY NUMBER [PROFILE]`.

Everything that the stage does at each step is running: checkpoints, progress, metrics. Prints one line of
JSON.
"""

import contextlib
import json
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.results import Row
from bench.train.settings import SETTINGS, Setting
from lorafinetune.api.status import ModelStatus
from lorafinetune.contract.arguments import TrainArguments, place
from lorafinetune_stages.base import forbid_hubs, require
from lorafinetune_stages.prepare.output import Prepared
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.train import config, device
from lorafinetune_stages.train.inputs import Inputs
from lorafinetune_stages.train.meter import Meter
from lorafinetune_stages.train.stage import Attempt
from lorafinetune_stages.train.stopping import Stop
from stages.train_builders import PREPARED, stand_in, train_arguments

BEGAN = time.monotonic()


class Recorder(Reporter):
    """Keeps the time at which each step was reported; may profile two steps after the warm-up."""

    def __init__(self, path: Path, setting: Setting, profile: Path | None) -> None:
        super().__init__("train", path)
        self.times: dict[int, float] = {}
        self._setting = setting
        self._profile = profile
        self._running: Any = None

    def update(self, **changes: object) -> None:
        super().update(**changes)
        if isinstance(step := changes.get("done"), int):
            self.times[step] = time.monotonic()
            self._trace(step)

    def _trace(self, step: int) -> None:
        import torch

        if self._profile and step == self._setting.warm_up:
            self._running = torch.profiler.profile()
            self._running.__enter__()
        if self._profile and self._running and step == self._setting.warm_up + 2:
            self._running.__exit__(None, None, None)
            table = self._running.key_averages().table(sort_by="self_cuda_time_total", row_limit=60)
            self._profile.write_text(table)
            self._running = None


def main(directory: Path, number: int, profile: Path | None) -> None:
    setting, facts = SETTINGS[number], json.loads((directory / "facts.json").read_text())
    scratch = directory / f"scratch-{number}"
    scratch.mkdir()
    store = stand_in(directory)
    model = ModelStatus.decode(facts["model"])
    fields = {
        "lora": {"rank": 8, "alpha": 16, "dropout": "0"},
        "epochs": None,
        "maxSteps": setting.warm_up + setting.steps,
        "learningRate": "1e-4",
        "cutoffLength": 2048,
        "precision": setting.precision,
        "batchSize": setting.batch_size,
    }
    arguments = train_arguments(store, model, fields).model_copy(update={"gpus": facts["gpus"]})
    recorder = Recorder(scratch / "progress", setting, profile)
    context = Context(store, scratch, recorder)
    with Stop() as stop, contextlib.redirect_stdout(sys.stderr):
        result = measure(arguments, context, directory, setting, recorder, stop, facts)
    sys.stdout.write(json.dumps(result) + "\n")


def measure(
    arguments: TrainArguments,
    context: Context,
    directory: Path,
    setting: Setting,
    recorder: Recorder,
    stop: Stop,
    facts: dict[str, Any],
) -> Row:
    forbid_hubs()
    device.claim(arguments)
    launch = import_module("lorafinetune_stages.train.launch")
    imported = time.monotonic()
    prepared = require(context.store, place("prepared", PREPARED), "the prepared dataset")
    inputs = Inputs(prepared, prepared, Prepared.decode(prepared.result or {}), directory)
    attempt = Attempt(arguments, context, inputs, launch, stop, Meter(arguments.gpus))
    plan = attempt.plan()
    plan = replace(plan, levers=setting.levers or plan.levers, cut=setting.cut or plan.cut)
    watch = attempt.train(config.portable(arguments.config, inputs.facts.template), plan)
    return {
        "settings": setting.name,
        "useful tokens/s": round(speed(watch.history.rows, recorder.times, setting)),
        **figures(watch, recorder.times, setting, facts),
        "start s": round(recorder.times[1] - BEGAN, 1),
        "of it imports s": round(imported - BEGAN, 1),
    }


def speed(rows: list[dict[str, Any]], times: dict[int, float], setting: Setting) -> float:
    """Tokens of conversations a second, from the report of the last warm-up step to that of the last."""
    first, last = setting.warm_up, setting.warm_up + setting.steps
    tokens = {row["step"]: row["tokens"] for row in rows}
    return float((tokens[last] - tokens[first]) / (times[last] - times[first]))


def figures(watch: Any, times: dict[int, float], setting: Setting, facts: dict[str, Any]) -> Row:
    import torch

    first, last = setting.warm_up, setting.warm_up + setting.steps
    rate = speed(watch.history.rows, times, setting)
    peak = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0
    return {
        "step ms": round(1000 * (times[last] - times[first]) / setting.steps),
        "peak GB": round(peak, 1),
        "TFLOP/s": round(rate * facts["flop_per_token"] / 1e12, 1),
        "loss": round(watch.history.rows[last - 1]["loss"], 3),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
