"""A frozen base in FP8: what its layers compute, what an adapter on it learns, and what is left of both.

The products are those of `torch._scaled_mm`, which a CPU does not have row by row: computed in fp32 here,
from the same 8-bit numbers and scales.
"""

import logging
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.training import Training
from stages.train_builders import OVERFITTING, partly_known, random_rows, tiny_model, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

ROUNDING = 2**-4
"""Of a number with three bits behind the point, at most."""


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models are small, and every layer of theirs is put into FP8 all the same."""
    from lorafinetune_stages.train import fp8

    def multiply(left: Any, right: Any, left_scales: Any, right_scales: Any) -> Any:
        product = (left.float() * left_scales) @ (right.float() * right_scales).T
        return product.bfloat16()

    monkeypatch.setattr(fp8, "multiply", multiply)
    monkeypatch.setattr(fp8, "NARROW", 0)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny model."""
    return tiny_model(tmp_path_factory.mktemp("base") / "tiny")


def adapted(directory: Path, dropout: float = 0.0) -> Any:
    """The model with an adapter that has learned something."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    config = LoraConfig(
        r=4, lora_alpha=12, lora_dropout=dropout, target_modules="all-linear", init_lora_weights=False
    )
    return get_peft_model(base, config, autocast_adapter_dtype=True).train()


def in_fp8(model: Any) -> Any:
    from lorafinetune_stages.train.optimizations import Optimizations, apply

    apply(Optimizations(mixed="bfloat16", cast=True, fp8=True), model)
    return model


def gradients(model: Any) -> dict[str, Any]:
    """Of the loss on some conversations, by the names of the parameters that have one."""
    import torch

    from lorafinetune_stages.train.collator import Collator
    from lorafinetune_stages.train.optimizations import Optimizations, apply
    from lorafinetune_stages.train.packed_trainer import pack_nats

    optimizations = Optimizations(mixed="bfloat16", cast=True)
    apply(optimizations, model)
    (pack,) = Collator(10_000)(random_rows(5))["passes"]
    with torch.autocast("cpu", torch.bfloat16):
        nats = pack_nats(model.get_base_model(), pack, optimizations)
    torch.autograd.backward(nats)
    found = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    model.zero_grad()
    return found


def error(got: Any, wanted: Any) -> float:
    """‖got - wanted‖ / ‖wanted‖"""
    return float((got.float() - wanted.float()).norm() / wanted.float().norm())


def together(parts: dict[str, Any]) -> Any:
    import torch

    return torch.cat([part.flatten() for _, part in sorted(parts.items())])


def test_a_row_is_rounded_by_its_own_scale() -> None:
    import torch

    from lorafinetune_stages.train.fp8 import quantise

    rows = torch.randn(4, 64) * torch.tensor([[1e-8], [1.0], [1e4], [0.0]])
    quantised, scales = quantise(rows)
    assert quantised.dtype is torch.float8_e4m3fn
    back = quantised.float() * scales
    large = rows.abs() > rows.abs().amax(-1, keepdim=True) * 2**-8
    assert ((back - rows).abs() <= ROUNDING * rows.abs())[large].all()
    assert (back[3] == 0).all()


def test_what_is_no_number_stays_none() -> None:
    import torch

    from lorafinetune_stages.train.fp8 import quantise

    for bad in (torch.nan, torch.inf):
        quantised, scales = quantise(torch.tensor([[1.0, bad]]))
        assert not (quantised.float() * scales).isfinite().all()


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_computes_what_it_did_within_the_rounding(bias: bool) -> None:
    import torch

    from lorafinetune_stages.train.fp8 import Fp8Linear

    torch.manual_seed(0)
    linear = torch.nn.Linear(96, 160, bias=bias, dtype=torch.bfloat16).requires_grad_(False)
    inputs = torch.randn(1, 50, 96, dtype=torch.bfloat16, requires_grad=True)
    outer = torch.randn(1, 50, 160, dtype=torch.bfloat16)
    results = {}
    for kind, layer in (("exact", linear), ("fp8", Fp8Linear(linear))):
        out = layer(inputs)
        assert out.dtype is torch.bfloat16
        results[kind] = (out, *torch.autograd.grad(out, inputs, outer))
    for got, wanted in zip(results["fp8"], results["exact"], strict=True):
        assert 0 < error(got, wanted) < ROUNDING


@pytest.mark.parametrize("dropout", [0.0, 0.1], ids=["ours", "as PEFT has it, for dropout"])
def test_an_adapter_on_it_learns_nearly_the_same(directory: Path, dropout: float) -> None:
    """With dropout it is held against itself in evaluation, where nothing is dropped."""
    import torch

    exact, quantised = adapted(directory, dropout), in_fp8(adapted(directory, dropout))
    for model in (exact, quantised):
        model.train(not dropout)
    wanted, got = gradients(exact), gradients(quantised)
    assert got.keys() == wanted.keys()
    assert all("lora_" in name for name in got)
    likeness = torch.nn.functional.cosine_similarity(together(got), together(wanted), dim=0)
    assert 0.9 < likeness < 1


def test_our_adapter_is_as_near_to_the_exact_one_as_that_of_peft() -> None:
    """Its result, and the gradients by its input and by the two halves of the adapter, against fp32."""
    import torch
    from peft.tuners import lora

    from lorafinetune_stages.train.fused_lora import FusedLora, adapt_layers

    torch.manual_seed(0)
    linear = torch.nn.Linear(96, 160).requires_grad_(False)
    layer = lora.Linear(linear, "default", r=4, lora_alpha=12, init_lora_weights=False)
    inputs, outer = torch.randn(1, 50, 96, requires_grad=True), torch.randn(1, 50, 160)

    def results(kept: Any) -> tuple[Any, ...]:
        halves = (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
        out = layer(kept)
        return out, *torch.autograd.grad(out, (kept, *halves), outer.to(out.dtype))

    exact = results(inputs)
    layer.cast_input_dtype_enabled = False
    linear.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        theirs = results(inputs.detach().bfloat16().requires_grad_())
        adapt_layers(layer)
        assert type(layer) is FusedLora
        ours = results(inputs.detach().bfloat16().requires_grad_())
    for got, beside, wanted in zip(ours, theirs, exact, strict=True):
        assert got.dtype is beside.dtype
        assert error(got, wanted) < min(1e-2, 1.1 * error(beside, wanted))


@pytest.mark.parametrize(("dropout", "said"), [(0.0, []), (0.1, ["1 adapters compute as PEFT has it"])])
def test_an_adapter_that_is_more_than_two_products_is_told(
    caplog: pytest.LogCaptureFixture, dropout: float, said: list[str]
) -> None:
    import torch
    from peft.tuners import lora

    from lorafinetune_stages.train.fused_lora import adapt_layers

    layer = lora.Linear(torch.nn.Linear(8, 8), "default", r=4, lora_alpha=12, lora_dropout=dropout)
    adapt_layers(layer)
    assert [message.partition(",")[0] for message in caplog.messages] == said


def test_a_base_without_its_adapter_is_the_base_alone(directory: Path) -> None:
    import torch

    model = in_fp8(adapted(directory)).eval()
    tokens = torch.tensor([random_rows(1)[0]["input_ids"]])
    with torch.no_grad(), model.disable_adapter():
        alone = model(tokens).logits
    with torch.no_grad():
        assert error(model(tokens).logits, alone) > ROUNDING


def test_the_weights_are_freed_and_what_is_saved_is_the_same(directory: Path) -> None:
    import torch
    from peft import get_peft_model_state_dict

    model = adapted(directory)
    before = {name: each.clone() for name, each in get_peft_model_state_dict(model).items()}
    layers = model.get_base_model().model.layers
    frozen = sum(each.numel() for each in layers.parameters() if not each.requires_grad)
    held = {id(each) for each in layers.parameters() if not each.requires_grad and each.dim() == 2}
    in_fp8(model)
    assert not held & {id(each) for each in model.parameters()}
    kept = sum(each.numel() for each in layers.parameters() if not each.requires_grad)
    in_8_bits = sum(each.numel() for each in layers.buffers() if each.dtype is torch.float8_e4m3fn)
    assert in_8_bits == 2 * (frozen - kept)
    assert not any(each.dtype is torch.float8_e4m3fn for each in model.state_dict().values())
    after = get_peft_model_state_dict(model)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_an_adapter_is_loaded_into_it(directory: Path, tmp_path: Path) -> None:
    """As a resume does."""
    import torch
    from peft import get_peft_model_state_dict

    model = in_fp8(adapted(directory))
    model.save_pretrained(tmp_path)
    before = {name: each.clone() for name, each in get_peft_model_state_dict(model).items()}
    for each in model.parameters():
        each.data += each.requires_grad
    model.load_adapter(tmp_path, "default", is_trainable=True)
    after = get_peft_model_state_dict(model)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_the_last_evaluation_is_on_the_unquantised_base(directory: Path) -> None:
    from lorafinetune_stages.train.evaluation import evaluate, evaluate_last
    from lorafinetune_stages.train.fit import Fit
    from lorafinetune_stages.train.optimizations import Optimizations
    from lorafinetune_stages.train.plan import TrainingPlan
    from lorafinetune_stages.train.process_group import ALONE

    def loss(measure: Any, model: Any, fp8: bool) -> float:
        plan = TrainingPlan(Fit(4, 1, False, 10_000), Optimizations(mixed="bfloat16", cast=True, fp8=fp8))
        value: float = measure(model, random_rows(5, seed=1), lambda: False, plan, ALONE).loss
        return value

    exact, quantised = adapted(directory), in_fp8(adapted(directory))
    gradients(exact)  # packs from here on
    wanted = loss(evaluate, exact, fp8=False)
    assert loss(evaluate, quantised, fp8=True) != wanted
    assert loss(evaluate_last, quantised, fp8=True) == pytest.approx(wanted, rel=1e-3)
    layers = exact.get_base_model().model.layers.named_parameters()
    restored = dict(quantised.get_base_model().model.layers.named_parameters())
    assert all((restored[name] == each).all() for name, each in layers)


def test_the_base_is_evaluated_unquantised_and_trains_on_in_fp8(directory: Path) -> None:
    import torch

    from lorafinetune_stages.train.evaluation import evaluate, evaluate_base
    from lorafinetune_stages.train.fit import Fit
    from lorafinetune_stages.train.fp8 import Fp8Linear
    from lorafinetune_stages.train.optimizations import Optimizations
    from lorafinetune_stages.train.plan import TrainingPlan
    from lorafinetune_stages.train.process_group import ALONE

    exact, quantised = adapted(directory), in_fp8(adapted(directory))
    gradients(exact)  # packs from here on
    before = {name: each.clone() for name, each in quantised.named_buffers()}
    trained = {name for name, each in quantised.named_parameters() if each.requires_grad}
    plan = TrainingPlan(Fit(4, 1, False, 10_000), Optimizations(mixed="bfloat16", cast=True, fp8=True))
    rows = random_rows(5, seed=1)
    with exact.disable_adapter():
        wanted = evaluate(exact, rows, lambda: False, plan, ALONE)
    found = evaluate_base(quantised, rows, lambda: False, plan, ALONE)
    assert wanted
    assert found
    assert found.nats == pytest.approx(wanted.nats, rel=1e-3)
    after = dict(quantised.named_buffers())
    assert any(isinstance(module, Fp8Linear) for module in quantised.modules())
    assert all(torch.equal(after[name].float(), before[name].float()) for name in before)
    assert {name for name, each in quantised.named_parameters() if each.requires_grad} == trained


@pytest.mark.parametrize(
    "checkpoint",
    [
        pytest.param({"earlyStopping": {"patience": 3}}, id="where the training is stopped early"),
        pytest.param({"earlyStopping": {"patience": 99}}, id="where it comes to its last step"),
        pytest.param({"select": "best"}, id="where the best is selected"),
    ],
)
def test_what_is_exported_is_evaluated_apart_from_what_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: dict[str, Any]
) -> None:
    """At which step losses are lowest depends on the processor."""
    monkeypatch.setattr("lorafinetune_stages.train.device.ON_GPUS_ALONE", ())
    shorter: dict[str, Any] = {**OVERFITTING, "epochs": None, "maxSteps": 8}
    fields = {**shorter, "precision": "fp8", "checkpoint": checkpoint}
    made = world(tmp_path, held_out=partly_known(), **fields)
    told = made.train().training
    *rows, last = [row for row in made.metrics() if "eval_loss" in row]
    losses = {row["step"]: row["eval_loss"] for row in rows}
    best = min((step for step in losses if step), key=losses.__getitem__)
    exports = best if "select" in checkpoint else told.step
    assert list(losses) == [*range(told.step + 1)]
    assert [row for row in rows if "exported" in row] == []
    assert (last["step"], last["exported"]) == (exports, True)
    assert last["eval_loss"] != losses[exports]
    assert (exported := last["eval_loss"]) == pytest.approx(losses[exports], rel=0.1)
    assert told.best_step == (best if "select" in checkpoint else None)
    assert float(told.best_eval_loss or told.eval_loss or 0) == pytest.approx(exported, rel=1e-5)


def test_a_base_whose_files_name_weights_otherwise_stays_in_fp8(
    directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from lorafinetune_stages.train.fp8 import restore_layers

    base = in_fp8(adapted(directory)).get_base_model()
    base.name_or_path = str(tmp_path)
    assert not restore_layers(base)
    assert "the base stays in FP8: its files do not have model.layers.0." in caplog.text


@pytest.mark.parametrize("narrow", [0, 512], ids=["wide", "narrow"])
def test_layers_that_gain_nothing_stay_as_they_are(
    tmp_path: Path,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    narrow: int,
) -> None:
    from lorafinetune_stages.train import fp8
    from lorafinetune_stages.train.launch import make_plan

    monkeypatch.setattr(fp8, "NARROW", narrow)
    model = in_fp8(adapted(directory))
    assert any(isinstance(module, fp8.Fp8Linear) for module in model.modules()) == (not narrow)
    arguments = world(tmp_path, precision="fp8").arguments
    plan = make_plan(arguments, directory, (24,), 1, 0)
    assert plan.facts()["optimizations"]["fp8"] == (not narrow)
    assert ("the base computes in bf16, not in fp8" in caplog.text) == bool(narrow)


@pytest.mark.parametrize(
    ("changes", "model_type"),
    [
        pytest.param({}, "gemma2", id="a family that is not packed"),
        pytest.param({"extraArgs": {"neftune_noise_alpha": "5"}}, "llama", id="an argument that pads"),
    ],
)
def test_what_can_not_be_packed_is_not_in_fp8_and_says_so(
    caplog: pytest.LogCaptureFixture, changes: dict[str, Any], model_type: str
) -> None:
    from transformers import AutoConfig

    from lorafinetune_stages.train.launch import _optimizations

    training = Training.decode({"epochs": "1", "precision": "fp8", **changes})
    with caplog.at_level(logging.WARNING):
        assert _optimizations(training, AutoConfig.for_model(model_type), 1) is None
    assert "the base computes in bf16, not in fp8" in caplog.text
