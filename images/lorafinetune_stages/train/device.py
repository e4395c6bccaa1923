"""The device that the training runs on, proven to be there before anything large is moved."""

import os
import platform
from pathlib import Path
from typing import Any, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import TrainArguments
from lorafinetune.contract.keys import resolved_precision
from lorafinetune.contract.outcome import StageError

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
CPU_RANKS_VARIABLE: Final = "LORAFINETUNE_CPU_RANKS"
"""How many processes train where no GPU is asked for. One is best on a CPU; more show what GPUs will do."""
ON_GPUS_ALONE: Final = ("fp16", "fp8")
"""Precisions that torch does not compute in on a CPU."""
CAPABILITIES: Final = {"bf16": (8, 0), "fp8": (8, 9)}
"""Compute capability of the first cards with matrix products in a precision. torch emulates bf16 on those
before, at a fraction of their speed."""
INSTEAD: Final = {
    "bf16": "Set `spec.training.precision: fp16`, or `spec.scheduling.nodeSelector` for an A100, L4 or newer "
    "card.",
    "fp8": "Set `spec.training.precision: bf16`, or `spec.scheduling.nodeSelector` for an L4, L40 or H100, "
    "or a newer card.",
}


def ranks(arguments: TrainArguments) -> int:
    """How many processes share a step: one a GPU."""
    return arguments.gpus or int(os.environ.get(CPU_RANKS_VARIABLE, 1))


def claim(arguments: TrainArguments, rank: int = 0) -> None:
    """Makes the asked-for device, of several the one of this rank, the only one that the libraries can see.

    To be called before torch is imported. Raises StageError(GpuUnavailable) where a GPU is asked for
    and there is none, StageError(ConfigInvalid) for what the device can't do.
    """
    if arguments.gpus == 0:
        _claim_cpu(arguments)
    else:
        _claim_gpu(arguments, rank)


def free_bytes(gpus: int) -> int:
    """Free memory of the claimed GPU; 0 on the CPU, where nothing depends on it."""
    if gpus == 0:
        return 0
    import torch

    free, _ = torch.cuda.mem_get_info()
    return int(free)


def hardware(gpus: int, size: int) -> dict[str, Any]:
    """What the result may depend on to the bit. size: number of ranks."""
    import torch

    facts = {"cpu": _cpu_name(), "threads": torch.get_num_threads(), "ranks": size}
    return facts | ({"gpu": torch.cuda.get_device_name(), "gpus": gpus} if gpus else {})


def _claim_cpu(arguments: TrainArguments) -> None:
    precision = arguments.training.precision
    if precision in ON_GPUS_ALONE:
        raise StageError(
            Reason.CONFIG_INVALID,
            f"training.precision: {precision} needs a GPU, and resources.train.gpu.count is 0",
            "Set `spec.training.precision` to bf16 or fp32.",
        )
    os.environ[VISIBLE_GPUS] = ""


def _claim_gpu(arguments: TrainArguments, rank: int) -> None:
    visible = os.environ.get(VISIBLE_GPUS)
    own = [str(rank)] if visible is None else visible.split(",")[rank : rank + 1]
    os.environ[VISIBLE_GPUS] = "".join(own)
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # packs differ in length
    import torch

    if not torch.cuda.is_available():
        asked = f"{arguments.gpus} GPUs are" if arguments.gpus > 1 else "a GPU is"
        seen = f"no more than {rank}" if rank else "none"
        raise StageError(
            Reason.GPU_UNAVAILABLE, f"resources.train.gpu.count: {asked} asked for, and torch sees {seen}"
        )
    precision = resolved_precision(arguments.training.precision)
    check_precision(precision, torch.cuda.get_device_name(), torch.cuda.get_device_capability())


def check_precision(precision: str, name: str, capability: tuple[int, int]) -> None:
    """precision: resolved. name, capability: of the card. Raises StageError(ConfigInvalid) where it does not
    compute in it."""
    if capability < (least := CAPABILITIES.get(precision, (0, 0))):
        has, needed = (".".join(map(str, each)) for each in (capability, least))
        raise StageError(
            Reason.CONFIG_INVALID,
            f"training.precision: {precision} needs compute capability {needed}, and the {name} has {has}",
            INSTEAD[precision],
        )


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
