"""A kernel with a fault: it writes where nothing is. CUDA ends whatever the process has on the card."""

import torch
import triton
import triton.language as tl

FAR = 1 << 42
"""Elements away from all that was allocated."""


@triton.jit  # type: ignore[untyped-decorator]
def _astray(pointer: torch.Tensor, far: tl.constexpr) -> None:
    tl.store(pointer + far, 1.0)


def write_astray() -> None:
    _astray[(1,)](torch.zeros(1, device="cuda"), FAR)
    torch.cuda.synchronize()
