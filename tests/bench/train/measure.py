"""One training, through the stage's own attempt: LLaMA-Factory's trainer, checkpoints, progress and all."""

import json
import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any, Final

from bench.results import Row
from bench.train.cases import Case
from bench.train.site import Site
from lorafinetune.contract.arguments import METRICS, place
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.train import device
from lorafinetune_stages.train.meter import Meter
from lorafinetune_stages.train.rank_spec import RankSpec
from lorafinetune_stages.train.stage import Attempt
from lorafinetune_stages.train.stop_signal import StopSignal
from stages.train_builders import stand_in

NOMINAL_FLOPS: Final = 989e12
"""Of an H100 or H200 in dense bf16, by the datasheet."""
CARD_BYTES: Final = int(80e9)
"""Of the card that the speeds are asked of: one with more is used as if it had no more."""
USUAL: Final = {
    "lora": {"rank": 8, "alpha": 16, "dropout": "0"},
    "learningRate": "1e-4",
    "scheduler": "constant",
    "cutoffLength": 2048,
    "epochs": None,
}
LOSS_AT: Final = 4
"""The step whose loss is shown: every case comes that far, on the same conversations where its step has
as many."""


@dataclass
class Watched:
    """When something happened, in seconds of the monotonic clock. steps: ends of steps; tokens: so far."""

    began: dict[str, float] = field(default_factory=dict)
    steps: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


class Watching(Reporter):
    """A reporter that also notes the time of what it is told."""

    def __init__(self, path: Path, seen: Watched) -> None:
        super().__init__("train", path)
        self._seen = seen

    def begin(self, activity: str, total: int | None, unit: str, done: int = 0) -> None:
        self._seen.began[activity] = time.monotonic()
        super().begin(activity, total, unit, done)

    def update(self, **changes: object) -> None:
        if changes.get("done") == len(self._seen.steps) + 1:
            self._seen.steps.append(time.monotonic())
        super().update(**changes)


def run(case: Case, site: Site, sustained_flops: float, rank: int = 0) -> Row:
    """Trains, and returns the row of the table. rank: of this process, which sees no card but its own."""
    seen = Watched()
    log = train(case, site, lambda path: Watching(path, seen), rank)
    _note(log, seen)
    return row(case, site, seen, sustained_flops)


def train(case: Case, site: Site, reporter: Callable[[Path], Reporter], rank: int = 0) -> Path:
    """The training's log of metrics. reporter: that writes to a path. Raises StageError where the training
    was asked to stop."""
    fields = {**USUAL, "maxSteps": case.steps, "batchSize": case.batch_size, **case.training}
    fields["checkpoint"] = {"every": case.warm_up, "keep": 1}
    arguments = site.arguments(case.name, fields, case.extra, case.ranks)
    with tempfile.TemporaryDirectory(dir=site.root) as folder, StopSignal() as stop:
        scratch = Path(folder)
        context = Context(stand_in(site.root), scratch, reporter(scratch / "progress.json"))
        device.claim(arguments)
        from lorafinetune_stages.train import launch

        logging.getLogger("lorafinetune_stages").setLevel(logging.INFO)
        if site.gpus:
            cap()
        peers = launch.ALONE
        if case.ranks > 1:
            rendezvous = str(site.root / arguments.key)
            spec = RankSpec(rank=rank, world_size=case.ranks, inputs=str(scratch), rendezvous=rendezvous)
            peers = launch.connect(spec, site.gpus)
        inputs, meter = site.inputs(arguments, scratch), Meter(arguments.gpus)
        Attempt(arguments, context, inputs, launch, stop, meter, peers, case.plan).run()
        if case.ranks > 1:
            launch.disconnect()
    return stand_in(site.root).root / place("trainings", arguments.key) / METRICS


def row(case: Case, site: Site, seen: Watched, sustained_flops: float) -> Row:
    # The checkpoint is saved after the last step of the warm-up, and so in the first that is left out.
    first = case.warm_up + 1
    seconds = seen.steps[-1] - seen.steps[first - 1]
    rate = (seen.tokens[-1] - seen.tokens[first - 1]) / seconds
    steps = [end - start for start, end in zip(seen.steps[first - 1 :], seen.steps[first:], strict=False)]
    sizes = site.parameters
    flops = 4 * (sizes["all"] - sizes["embedding"]) * rate
    return {
        "settings": case.name,
        **({"conversations a step": case.batch_size} if case.batch_size else {}),
        "tokens a step": round(mean_increase(seen.tokens)),
        "tokens/s": round(rate),
        "step ms": round(1000 * median(steps)),
        "TFLOP/s": round(flops / 1e12, 1),
        "% of sustained": round(100 * flops / sustained_flops / case.ranks, 1),
        "% of 989": round(100 * flops / NOMINAL_FLOPS / case.ranks, 1),
        "peak GB": peak_gb(site.gpus),
        "with what is kept GB": kept_gb(site.gpus),
        "load s": round(seen.began["training"] - seen.began["loading the model"], 1),
        "first step s": round(seen.steps[0] - seen.began["training"], 1),
        "save s": round(seen.steps[first - 1] - seen.steps[first - 2] - median(steps), 1),
        f"loss at step {LOSS_AT}": round(seen.losses[LOSS_AT - 1], 4),
    }


def mean_increase(totals: list[int]) -> float:
    return mean(after - before for before, after in zip([0, *totals], totals, strict=False))


def cap() -> None:
    """Of the claimed card, for this process."""
    import torch

    share = CARD_BYTES / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    free_bytes = device.free_bytes
    device.free_bytes = lambda gpus: min(free_bytes(gpus), CARD_BYTES)


def peak_gb(gpus: int) -> float:
    import torch

    return round(torch.cuda.max_memory_allocated() / 1e9, 1) if gpus else 0.0


def kept_gb(gpus: int) -> float:
    """With what graphs and the allocator keep for later: what a card must have."""
    import torch

    return round(torch.cuda.max_memory_reserved() / 1e9, 1) if gpus else 0.0


def _note(log: Path, seen: Watched) -> None:
    for line in log.read_text().splitlines():
        logged: dict[str, Any] = json.loads(line)
        seen.tokens.append(logged["tokens"])
        seen.losses.append(logged["loss"])
