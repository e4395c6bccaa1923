"""Whether a model's files hold every weight of its architecture, told by their headers alone.

transformers fills in missing weights with random numbers and only logs it: that would be a training of
another model. Its own loading code, on tensors without content, tells here which names it looks for, and what
it makes of others.

Importing this module imports torch and transformers, which takes long.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from transformers.utils import logging as transformers_logging

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.base import INDEX, json_object
from lorafinetune_stages.export.layout import read_tensors
from lorafinetune_stages.prepare.basemodel import BaseModel
from lorafinetune_stages.shape import is_quantised
from lorafinetune_stages.store import Store

log = logging.getLogger("lorafinetune")

SHOWN: Final = 3

Shapes = Mapping[str, Sequence[int]]


def read_shapes(store: Store, model: BaseModel) -> Shapes:
    """The shape of every tensor in the model's files, by name. Raises StageError(ModelUnsupported)."""
    names = [file.path for file in model.manifest.files]
    listed = store.read(f"{model.place}/{INDEX}") if INDEX in names else None
    index = None if listed is None else json_object(INDEX, listed)
    return {tensor.name: tensor.shape for tensor in read_tensors(store, model.place, names, index)}


def check_weights(network: Any, shapes: Shapes) -> None:
    """network: without its weights. Raises StageError(ModelUnsupported) where the files don't fill it."""
    if is_quantised(network.config):
        return  # which tensors there are is the quantisation's own affair
    tied = getattr(network, "all_tied_weights_keys", {}) if network.config.tie_word_embeddings else {}
    given = {
        name: torch.empty(tuple(shape), device="meta") for name, shape in shapes.items() if name not in tied
    }
    try:
        found = _load(network, given)
    except Exception as problem:  # code for tensors with content may refuse those without
        log.warning("whether the model's weights are complete can't be told: %s", problem)
        return
    wrong = [f"{name} is missing" for name in sorted(found["missing_keys"])]
    wrong += [
        f"{name} is {_sizes(ours)}, not {_sizes(needed)}" for name, ours, needed in found["mismatched_keys"]
    ]
    if wrong:
        more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise StageError(
            Reason.MODEL_UNSUPPORTED,
            f"model.source: its weights are not those of its config.json: {', '.join(wrong[:SHOWN])}{more}",
            "Use a complete copy of the model, or another revision.",
        )


def _load(network: Any, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
    """What transformers says of loading these tensors."""
    with _silenced():
        _, found = type(network).from_pretrained(
            None,
            config=network.config,
            state_dict=dict(tensors),
            device_map="meta",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    return dict(found)


@contextmanager
def _silenced() -> Iterator[None]:
    """Its report would be a table in the log, and its progress a bar."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()
        transformers_logging.set_verbosity(verbosity)


def _sizes(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
