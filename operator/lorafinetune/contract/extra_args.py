"""LLaMA-Factory's arguments that a resource may set by name in `training.extraArgs`.

What names a path, a host, a hub, code or a reporter is not in the list, and neither is what has a
typed field of its own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class ExtraArgument:
    """Type of an argument, and whether it changes the result of the training. packing_safe: whether it
    means the same for a conversation in a row with others."""

    type: type[int] | type[float]
    shapes_result: bool = True
    packing_safe: bool = True

    def parse(self, text: str) -> int | float:
        """The typed value. Raises ValueError, also for what is no finite number."""
        value = self.type(text)
        if not math.isfinite(value):
            raise ValueError(f"{text!r} is not finite")
        return value


EXTRA_ARGUMENTS: Final = {
    "adam_beta1": ExtraArgument(float),
    "adam_beta2": ExtraArgument(float),
    "adam_epsilon": ExtraArgument(float),
    "label_smoothing_factor": ExtraArgument(float, packing_safe=False),
    "logging_steps": ExtraArgument(int, shapes_result=False),
    "loraplus_lr_ratio": ExtraArgument(float),
    "neftune_noise_alpha": ExtraArgument(float, packing_safe=False),
}


def shaping(arguments: Mapping[str, str]) -> dict[str, str]:
    """The arguments that change the result."""
    return {name: value for name, value in arguments.items() if _shapes(name)}


def _shapes(name: str) -> bool:
    return name not in EXTRA_ARGUMENTS or EXTRA_ARGUMENTS[name].shapes_result


_PATH = "It names a path or a place; stages read and write only the store."
_CODE = "It can run code that is not ours."
_REPORTER = "It sends data to another host."

REFUSED_ARGUMENTS: Final = {
    "cache_dir": _PATH,
    "dataset_dir": _PATH,
    "deepspeed": _PATH,
    "hf_hub_token": _PATH,
    "hub_token": _REPORTER,
    "media_dir": _PATH,
    "model_name_or_path": "Set `spec.model.source`.",
    "adapter_name_or_path": _PATH,
    "output_dir": _PATH,
    "push_to_hub": _REPORTER,
    "ray_storage_path": _PATH,
    "report_to": _REPORTER,
    "resume_from_checkpoint": _PATH,
    "tokenized_path": _PATH,
    "trust_remote_code": _CODE,
}
"""Arguments that are refused with a reason of their own, because people ask for them."""
