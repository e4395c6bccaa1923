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
        "gradients of an adapter": gradient_error(gpus=1),
        **fp8_errors(),
    }


def fp8_errors() -> Row:
    """Relative errors of a frozen layer in FP8 on the GPU: e4m3 has three bits behind the point."""
    import torch

    from lorafinetune_stages.train.fp8 import Fp8Linear

    torch.manual_seed(0)
    linear = torch.nn.Linear(1024, 2048, device="cuda", dtype=torch.bfloat16).requires_grad_(False)
    inputs = torch.randn(1, 512, 1024, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    outer = torch.randn(1, 512, 2048, device="cuda", dtype=torch.bfloat16)
    exact, fast = (
        (out := layer(inputs), *torch.autograd.grad(out, inputs, outer))
        for layer in (linear, torch.compile(Fp8Linear(linear), dynamic=True))
    )
    return {"fp8: out": error(fast[0], exact[0]), "fp8: gradient": error(fast[1], exact[1])}


def gradient_error(gpus: int) -> float:
    """Relative error of an adapter's gradients in bf16: packed with all that is fast on the device, against
    conversation by conversation as transformers has it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import GlmConfig, GlmForCausalLM

    from bench.train.site import TINY
    from lorafinetune_stages.train.collator import Collator
    from lorafinetune_stages.train.optimizations import apply, choose
    from lorafinetune_stages.train.packed_trainer import pack_nats

    device = "cuda" if gpus else "cpu"
    torch.manual_seed(0)
    shape = {**TINY, "hidden_size": 256, "intermediate_size": 512, "head_dim": 64, "num_hidden_layers": 4}
    lora = LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False)
    base = GlmForCausalLM._from_config(GlmConfig(**shape), dtype=torch.bfloat16)
    model = get_peft_model(base, lora, autocast_adapter_dtype=True).to(device)
    rows = [
        {"input_ids": tokens, "labels": [-100] * 20 + tokens[20:]}
        for tokens in (torch.randint(3, 3000, (length,)).tolist() for length in (50, 333, 128))
    ]
    parameters = [each for each in model.parameters() if each.requires_grad]
    with torch.autocast(device, torch.bfloat16):
        alone = [
            model(
                torch.tensor([row["input_ids"]], device=device),
                labels=torch.tensor([row["labels"]], device=device),
                num_items_in_batch=1,
                use_cache=False,
            ).loss
            for row in rows
        ]
        wanted = torch.autograd.grad(torch.stack(alone).sum(), parameters)
        optimizations = choose(64, "bf16", "lora", gpus)
        apply(optimizations, model)
        (pack,) = Collator(10_000, optimizations.multiple)(rows)["passes"]
        moved = {name: value.to(device) if torch.is_tensor(value) else value for name, value in pack.items()}
        got = torch.autograd.grad(pack_nats(base, moved, optimizations), parameters)
    return error(*(torch.cat([part.flatten() for part in parts]) for parts in (got, wanted)))


def error(fast: object, slow: object) -> float:
    """‖fast - slow‖ / ‖slow‖"""
    import torch

    assert isinstance(fast, torch.Tensor)
    assert isinstance(slow, torch.Tensor)
    return round(float((fast.float() - slow.float()).norm() / slow.float().norm()), 5)
