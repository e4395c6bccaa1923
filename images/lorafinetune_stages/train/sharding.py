"""The frozen base split over the ranks, for models that do not fit one card: torch's FSDP2, of layers alone.

Every rank holds a part of each layer, and all of the layer only while it computes. Adapters, embeddings and
head stay whole. So gradients, optimizer, checkpoints and random numbers are the same as on ranks that hold
all of the base, and so is every result. But ranks gather a layer together: all must make the same number of
passes, and a rank that has no rows left makes idle ones.

The base is read into the memory of the host by one rank of a node at a time, and put on the cards by layers.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.train.process_group import ProcessGroup

log = logging.getLogger(__name__)


def check_layers(network: Any) -> None:
    """Raises StageError where it is not known how to split a model. network: without weights."""
    if not hasattr(getattr(network, "model", None), "layers"):
        raise StageError(
            Reason.MODEL_UNSUPPORTED,
            f"resources.train.sharding: fsdp2 knows no layers in a {type(network).__name__}",
            "Set `spec.resources.train.sharding: none`, or choose another model.",
        )


def split_when_loaded(load_model: Callable[..., Any], group: ProcessGroup, device: str) -> Callable[..., Any]:
    """LLaMA-Factory's own, for a base that is to be split. device: `cpu` or `cuda`."""
    return partial(_load, load_model, group, device)


def _load(
    load_model: Callable[..., Any],
    group: ProcessGroup,
    device: str,
    tokenizer: Any,
    arguments: Any,
    *rest: Any,
) -> Any:
    arguments.device_map = {"": "cpu"}
    mesh = init_device_mesh(device, (group.size,))
    own = group.rank - group.first
    model: Any = None
    for turn in range(1 - int(group.least(-own))):
        if turn == own:
            model = load_model(tokenizer, arguments, *rest)
            _split(model, mesh)
        group.barrier()
    log.info("the base's layers are split over %d ranks (fsdp2)", group.size)
    return model


def _split(model: Any, mesh: Any) -> None:
    """model: a PeftModel on a base whose layers are in `model.layers`. Raises RuntimeError where nothing is
    split."""
    inner = model.get_base_model().model
    trained = {each for each in model.parameters() if each.requires_grad}
    for layer in inner.layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=trained)
    whole = {each for name, each in inner.named_parameters() if not name.startswith("layers.")}
    fully_shard(inner, mesh=mesh, reshard_after_forward=True, ignored_params=trained | whole)
    if not any(hasattr(each, "placements") for each in inner.layers.parameters()):
        raise RuntimeError(f"no layer of {type(inner).__name__} is split")
