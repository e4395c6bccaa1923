"""LLaMA-Factory, run in this process. Everything heavy is imported here and below, and nowhere else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llamafactory.train.tuner import run_exp
from transformers import AutoConfig

from lorafinetune_stages.train.callback import Watch
from lorafinetune_stages.train.failures import explain
from lorafinetune_stages.train.fit import Shape
from lorafinetune_stages.train.stopping import Stop

__all__ = ["Watch", "read_shape", "train"]


def read_shape(model: Path, size: int) -> Shape:
    """The sizes of the model in a directory. size: bytes of its weights."""
    config = AutoConfig.from_pretrained(model, trust_remote_code=False).get_text_config()
    hidden = config.hidden_size
    return Shape(
        bytes=size,
        layers=config.num_hidden_layers,
        hidden=hidden,
        intermediate=getattr(config, "intermediate_size", None) or 4 * hidden,
        vocabulary=config.vocab_size,
    )


def train(config: Mapping[str, Any], watch: Watch, stop: Stop) -> None:
    """Trains to the last step; the adapter lies in the configuration's `output_dir` then.

    Raises StageError for what a person can mend, and where the training was stopped.
    """
    try:
        run_exp(dict(config), callbacks=[watch])
    except Exception as problem:
        if watch.steps == 0:
            stop.check_before_first_step()
        raise explain(problem) from problem
