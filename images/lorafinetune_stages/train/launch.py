"""LLaMA-Factory, run in this process. Everything heavy is imported here and below, and nowhere else."""

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from llamafactory.train.tuner import run_exp
from transformers import AutoConfig

from lorafinetune.contract.arguments import TrainArguments
from lorafinetune.contract.keys import resolved_packing, resolved_precision
from lorafinetune_stages.train.callback import Watch
from lorafinetune_stages.train.failures import explain
from lorafinetune_stages.train.fit import Shape, fit, fit_packed
from lorafinetune_stages.train.levers import can_pack, choose
from lorafinetune_stages.train.packed_trainer import packed
from lorafinetune_stages.train.plan import Plan
from lorafinetune_stages.train.stopping import Stop

log = logging.getLogger(__name__)

__all__ = ["Watch", "make_plan", "train"]


def make_plan(arguments: TrainArguments, model: Path, free_bytes: int) -> Plan:
    """How the training is to run. model: directory of the base. free_bytes: of one GPU."""
    training, gpus = arguments.training, arguments.gpus
    config = AutoConfig.from_pretrained(model, trust_remote_code=False).get_text_config()
    shape = read_shape(config, arguments.model.bytes)
    if resolved_packing(training) == "none":
        return Plan(fit(training.batch_size, gpus, training.cutoff_length, shape, free_bytes))
    if not can_pack(config, training.cutoff_length):
        log.warning("conversations are padded, not packed: that is not known to suit %s", config.model_type)
        return Plan(fit(training.batch_size, gpus, training.cutoff_length, shape, free_bytes))
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    levers = choose(head, resolved_precision(training.precision), training.lora.variant, gpus)
    cut = fit_packed(training.batch_size, gpus, training.cutoff_length, shape, free_bytes, levers.compiled)
    return Plan(cut, levers)


def read_shape(config: Any, size: int) -> Shape:
    """The sizes of a model. config: transformers', of the text model. size: bytes of its weights."""
    hidden = config.hidden_size
    return Shape(
        bytes=size,
        layers=config.num_hidden_layers,
        hidden=hidden,
        intermediate=getattr(config, "intermediate_size", None) or 4 * hidden,
        vocabulary=config.vocab_size,
    )


def train(config: Mapping[str, Any], plan: Plan, watch: Watch, stop: Stop) -> None:
    """Trains to the last step; the adapter lies in the configuration's `output_dir` then.

    Raises StageError for what a person can mend, and where the training was stopped.
    """
    packing = packed(plan.levers, plan.fit.pack_tokens) if plan.levers else nullcontext()
    try:
        with packing:
            run_exp(dict(config), callbacks=[watch])
    except Exception as problem:
        if watch.steps == 0:
            stop.check_before_first_step()
        raise explain(problem) from problem
