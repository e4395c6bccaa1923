"""What an exception from inside the libraries means to a person."""

import re
from typing import Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.memory import GIB
from lorafinetune.contract.outcome import StageError

GPU_FAULT: Final = r"CUDA error: (?!out of memory|device-side assert)|CU(BLAS|DNN)_STATUS_|uncorrectable ECC"
"""An assertion of a kernel is about what it was given, and would fail on any GPU."""

KNOWN: Final[tuple[tuple[str, str, Reason, str], ...]] = (
    (
        "OutOfMemoryError",
        r"",
        Reason.CUDA_OUT_OF_MEMORY,
        "the GPU's memory is too small, where at most {estimate} GiB were estimated: {}",
    ),
    (
        "RuntimeError|AcceleratorError",
        r"no kernel image is available",
        Reason.GPU_UNAVAILABLE,
        "torch has no code for a GPU of this kind",
    ),
    (
        "RuntimeError|AcceleratorError",
        GPU_FAULT,
        Reason.GPU_FAULT,
        "the GPU failed: {}",
    ),
    (
        "RuntimeError",
        r"can't allocate memory",
        Reason.HOST_OUT_OF_MEMORY,
        "the training needs more memory than there is",
    ),
    (
        "ValueError",
        r"Target module",
        Reason.CONFIG_INVALID,
        "training.lora.targets: {}",
    ),
    (
        "ValueError",
        r"not used by the HfArgumentParser|Invalid (beta|epsilon)",
        Reason.CONFIG_INVALID,
        "training.extraArgs: {}",
    ),
)
"""Pattern of the exception's class, one in its text, the reason, and the message; {}: the text."""


def explain(problem: Exception, estimated: int = 0) -> Exception:
    """The failure with its reason, or the exception itself where it is none that we know.

    estimated: bytes of the GPU that the training was thought to use at most.
    """
    text = " ".join(str(problem).split())
    for name, pattern, reason, message in KNOWN:
        if re.fullmatch(name, type(problem).__name__) and re.search(pattern, text):
            return StageError(reason, message.format(text[:500], estimate=f"{estimated / GIB:.1f}"))
    return problem
