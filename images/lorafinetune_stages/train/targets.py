"""Whether the layers that a person named for the adapter exist, and can have an adapter."""

from collections.abc import Iterable
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError


def check_targets(model: Any, targets: Iterable[str]) -> None:
    """Raises StageError(ConfigInvalid): PEFT is content when one of several names matches a layer.

    model: a PeftModel. targets: `training.lora.targets`.
    """
    tuned = tuple(model.targeted_module_names)
    for target in targets:
        if target != "all" and not any(f".{name}".endswith(f".{target}") for name in tuned):
            raise StageError(
                Reason.CONFIG_INVALID,
                f"training.lora.targets: no layer of the model is named {target!r}",
                f"The model's layers are {', '.join(_linear_layers(model))}; `all` means every one.",
            )
    for name, module in (
        ("the input embedding", model.get_input_embeddings()),
        ("the output head", model.get_output_embeddings()),
    ):
        if isinstance(module, BaseTunerLayer):
            raise StageError(Reason.CONFIG_INVALID, f"training.lora.targets: {name} can't be tuned")


def _linear_layers(model: Any) -> list[str]:
    names = {name for name, module in model.named_modules() if "Linear" in type(module).__name__}
    bare = (name.removesuffix(".base_layer").split(".")[-1] for name in names)
    return sorted({name for name in bare if name not in ("lm_head", "default")})
