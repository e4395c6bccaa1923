"""LLaMA-Factory, run in this process. Everything heavy is imported here and below, and nowhere else."""

import gc
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from llamafactory.train.tuner import run_exp

from lorafinetune.api.training import Training
from lorafinetune.contract.arguments import TrainArguments
from lorafinetune.contract.keys import resolved_packing, resolved_precision
from lorafinetune.contract.memory import MemorySettings, step_rows
from lorafinetune_stages.shape import build, measure
from lorafinetune_stages.train.callback import TrainingCallback
from lorafinetune_stages.train.early_stopping import Ended
from lorafinetune_stages.train.failures import explain
from lorafinetune_stages.train.fit import fit
from lorafinetune_stages.train.fp8 import gains
from lorafinetune_stages.train.graphs import Capture
from lorafinetune_stages.train.nf4 import without_bitsandbytes
from lorafinetune_stages.train.optimizations import Optimizations, can_pack, check_packing, choose
from lorafinetune_stages.train.packed_trainer import packed_training
from lorafinetune_stages.train.padded_trainer import padded_training
from lorafinetune_stages.train.pair_trainer import weighed_alike
from lorafinetune_stages.train.plan import TrainingPlan
from lorafinetune_stages.train.process_group import ALONE, ProcessGroup, connect, disconnect
from lorafinetune_stages.train.sharding import check_layers
from lorafinetune_stages.train.stop_signal import StopSignal
from lorafinetune_stages.train.workflows import connected

log = logging.getLogger(__name__)

__all__ = ["ALONE", "TrainingCallback", "connect", "disconnect", "free_memory", "make_plan", "train"]


def make_plan(
    arguments: TrainArguments, model: Path, longest: Sequence[int], ranks: int, free_bytes: int
) -> TrainingPlan:
    """How the training is to run. model: directory of the base. longest: lengths of the longest rows, from
    the longest on. ranks: of all nodes. free_bytes: of one GPU."""
    training, gpus = arguments.training, ranks if arguments.gpus else 0
    shards = ranks if arguments.sharding else 1
    network = build(model)
    if shards > 1:
        check_layers(network)
    shape = measure(network, training.lora)
    optimizations = _optimizations(training, network.config.get_text_config(), gpus)
    if shards > 1 and optimizations and optimizations.compiled:
        log.warning("layers are not compiled: that was not tried with a base that is split (fsdp2)")
        optimizations = replace(optimizations, compiled=False, multiple=1, graphed=False)
    if optimizations and optimizations.fp8 and not gains(network):
        log.warning("the base computes in bf16, not in fp8: its layers are too narrow to gain by it")
        optimizations = replace(optimizations, fp8=False, graphed=False)
    settings = MemorySettings.of(
        training, packed=optimizations is not None, compiled=bool(optimizations and optimizations.compiled)
    )
    settings = replace(settings, shards=shards)
    cut = fit(step_rows(training, longest), gpus, longest, shape, settings, free_bytes)
    return TrainingPlan(cut, optimizations, training.quantization == "nf4", shards).refit(cut)


def _optimizations(training: Training, config: Any, gpus: int) -> Optimizations | None:
    """Absent where conversations are padded."""
    if not _packs(training, config):
        if training.precision == "fp8":
            log.warning("the base computes in bf16, not in fp8, which is for packed conversations alone")
        return None
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    precision = resolved_precision(training.precision)
    return choose(head, precision, training.lora.variant, gpus, training.quantization)


def _packs(training: Training, config: Any) -> bool:
    if training.objective == "dpo":
        log.warning("pairs are padded, and trained on by LLaMA-Factory without our fast paths")
    if resolved_packing(training) == "none":
        return False
    check_packing(training, config)
    known = can_pack(config, training.cutoff_length)
    if not known:
        log.warning("conversations are padded, not packed: that is not known to suit %s", config.model_type)
    return known


def train(
    config: Mapping[str, Any],
    training: Training,
    plan: TrainingPlan,
    callback: TrainingCallback,
    stop: StopSignal,
    group: ProcessGroup,
) -> TrainingPlan:
    """Trains to the last step, or until it is stopped early; the adapter lies in the configuration's
    `output_dir` then. Returns the plan as it was carried out.

    Raises StageError for what a person can mend, and where the training was stopped.
    """
    capture = Capture()
    try:
        others = nullcontext() if plan.nf4 else without_bitsandbytes()
        with _changes(training, plan, group, capture), connected(), others, callback.watchdog:
            run_exp(dict(config), callbacks=[callback])
    except Ended:
        log.info("%s after step %d", "stopped early" if callback.stopped_early else "ended", callback.steps)
    except Exception as problem:
        if callback.steps == 0:
            stop.check_before_first_step()
        raise explain(problem, plan.fit.bytes) from problem
    return plan.without_graphs() if group.any(not capture.is_used) else plan


def _changes(
    training: Training, plan: TrainingPlan, group: ProcessGroup, capture: Capture
) -> AbstractContextManager[None]:
    """What is not LLaMA-Factory's own in the training."""
    split = ("cuda" if torch.cuda.is_available() else "cpu") if plan.shards > 1 else ""
    if plan.optimizations:
        return packed_training(training, plan.optimizations, plan.fit.pack_tokens, group, capture, split)
    if group.size > 1:
        return padded_training(training.objective, plan.fit.micro_batch, group, split)
    return weighed_alike() if training.objective == "dpo" else nullcontext()


def free_memory() -> None:
    """Gives back what a training that failed has left on the device."""
    gc.collect()
    torch.cuda.empty_cache()
