"""What the card itself can do, so that the trainings can be held against it, and whether the fast paths
compute what the slow ones do on it."""

import time
from typing import Final

from bench.results import Row

SECONDS: Final = 4.0
SIDE: Final = 8192
SMALL_SIDE: Final = 512


def sustained_flops(gpus: int, seconds: float = SECONDS) -> float:
    """Operations a second of bf16 matrix products on random data, one after another for some seconds:
    less than for a moment, for the card's power is limited."""
    import torch

    side = SIDE if gpus else SMALL_SIDE
    device = "cuda" if gpus else "cpu"
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(left)
    done, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        for _ in range(20):
            torch.mm(left, right, out=out)
        if gpus:
            torch.cuda.synchronize()
        done += 20
    return done * 2 * side**3 / (time.monotonic() - began)


def agreement() -> Row:
    """Relative errors of packed attention in FlashAttention, and of the compiled loss, on the GPU."""
    import torch

    from lorafinetune_stages.train.attention import FORMS
    from lorafinetune_stages.train.loss import chunk_loss

    torch.manual_seed(0)
    module = torch.nn.Module()
    module.num_key_value_groups = 16  # type: ignore[assignment]  # as an attention of transformers has it
    bounds = torch.tensor([0, 300, 301, 1000, 1024], device="cuda", dtype=torch.int32)
    inputs = [
        torch.randn(1, heads, 1024, 128, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for heads in (32, 2, 2)
    ]
    results = {}
    for kind, form in FORMS.items():
        out, _ = form(module, *inputs, None, scaling=128**-0.5, cu_seq_lens_q=bounds, max_length_q=699)
        weights = torch.linspace(-1, 1, out.numel(), device="cuda").view_as(out)
        results[kind] = (out, *torch.autograd.grad((out.float() * weights).sum(), inputs))
    states = torch.randn(500, 256, device="cuda", dtype=torch.bfloat16)
    head = torch.randn(2000, 256, device="cuda", dtype=torch.bfloat16)
    targets = torch.randint(2000, (500,), device="cuda")
    losses = [each(states, head, targets) for each in (torch.compile(chunk_loss, dynamic=True), chunk_loss)]
    return {
        **{
            f"varlen: {name}": error(fast, slow)
            for name, fast, slow in zip(
                ("out", "dq", "dk", "dv"), results["varlen"], results["each"], strict=True
            )
        },
        **{
            f"loss: {name}": error(fast, slow)
            for name, fast, slow in zip(("value", "gradient"), *losses, strict=True)
        },
    }


def error(fast: object, slow: object) -> float:
    """‖fast - slow‖ / ‖slow‖"""
    import torch

    assert isinstance(fast, torch.Tensor)
    assert isinstance(slow, torch.Tensor)
    return round(float((fast.float() - slow.float()).norm() / slow.float().norm()), 5)
