"""A base in 4 bits: what an adapter learns on it, and what is left of the 4 bits once it has.

bitsandbytes computes on a CPU too, so nothing here stands in for it.
"""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from lorafinetune.api.exports import Export
from lorafinetune.api.reasons import Reason
from lorafinetune.api.training import Training
from lorafinetune.contract.arguments import place
from lorafinetune.contract.memory import WEIGHT_BYTES
from lorafinetune.contract.outcome import ExitCode, StageError, TrainResult
from lorafinetune_stages.train.device import CPU_RANKS_VARIABLE
from stages.test_train_processes import Stage
from stages.train_builders import (
    OVERFITTING,
    ROWS,
    World,
    partly_known,
    random_pairs,
    random_rows,
    random_texts,
    tiny_model,
    world,
)

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

EVALUATION: Final = {"fraction": "0.2", "everySteps": 2}
MADE: Final[Mapping[str, Mapping[str, Any]]] = {
    "sft": {},
    "pt, in steps of tokens": {
        "objective": "pt",
        "rows": random_texts(ROWS),
        "held_out": random_texts(3, seed=1),
        "packing": "tokens",
        "batchTokens": 48,
        "batchSize": None,
    },
    "dpo": {
        "objective": "dpo",
        "rows": random_pairs(ROWS),
        "held_out": random_pairs(3, seed=1),
        "lora": {"dropout": "0"},
    },
}

Whole = tuple[World, TrainResult]


@pytest.fixture(scope="module", params=MADE)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Four steps that nobody interrupted, with a checkpoint after every second one."""
    made = world(
        tmp_path_factory.mktemp("whole"),
        **{"epochs": None, "maxSteps": 4, "quantization": "nf4", **MADE[request.param]},
        evaluation=EVALUATION,
        checkpoint={"every": 2},
    )
    return made, made.train()


def test_a_training_that_dies_goes_on_from_its_checkpoint(whole: Whole, tmp_path: Path) -> None:
    made, result = whole
    left = made.copy(tmp_path)
    assert left.train().adapter.digest == result.adapter.digest
    assert left.metrics() == made.metrics()
    assert left.manifest().lineage["resumes"] == 1


def test_the_lineage_says_what_held_the_base(whole: Whole) -> None:
    lineage = whole[0].manifest().lineage
    assert lineage["plan"]["nf4"]
    assert lineage["versions"]["bitsandbytes"]
    config = lineage["config"]
    assert (config["quantization_bit"], config["quantization_type"]) == (4, "nf4")
    card = (whole[0].place / "adapter" / "README.md").read_text()
    assert "| quantization_type | nf4 |" in card


def test_the_base_and_the_result_are_evaluated_on_the_unquantised_base(whole: Whole) -> None:
    made, _ = whole
    training = made.arguments.training
    first, *_, last = (row["eval_loss"] for row in made.metrics() if "eval_loss" in row)
    base, tuned = (held_out_loss(made, exact(made, adapter), training.objective) for adapter in (False, True))
    if training.objective == "dpo":  # a loss of sums of what bf16 rounds; a base has gained nothing on itself
        rounded = in_4_bits(exact(made, adapter=True))
        assert abs(last - tuned) < abs(last - held_out_loss(made, rounded, training.objective)) / 5
    else:
        assert (first, last) == pytest.approx((base, tuned), rel=1e-3)


def exact(made: World, adapter: bool) -> Any:
    """The unquantised base, with what was learned or with an adapter that changes nothing."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(made.root / "tiny", dtype=torch.bfloat16)
    if adapter:
        return PeftModel.from_pretrained(base, made.place / "adapter")
    return get_peft_model(base, LoraConfig(target_modules="all-linear"))


def in_4_bits(model: Any) -> Any:
    """The base's matrices rounded as the training held them."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    for name, weight in model.named_parameters():
        if name.endswith("proj.base_layer.weight"):
            weight.data = dequantize_4bit(*quantize_4bit(weight.data, quant_type="nf4"))
    return model


def held_out_loss(made: World, model: Any, objective: str) -> float:
    from datasets import load_from_disk

    from lorafinetune_stages.train.evaluation import evaluate
    from lorafinetune_stages.train.fit import Fit
    from lorafinetune_stages.train.optimizations import Optimizations, apply
    from lorafinetune_stages.train.plan import TrainingPlan
    from lorafinetune_stages.train.preferences import evaluate_pairs
    from lorafinetune_stages.train.process_group import ALONE

    prepared = made.store.root / place("prepared", made.arguments.prepared)
    rows = load_from_disk(str(prepared / "dataset" / "validation"))
    if objective == "dpo":
        found = evaluate_pairs(model, rows, lambda: False, beta=0.1)
        assert found is not None
        return found.losses.loss
    optimizations = Optimizations(mixed="bfloat16", cast=True)
    apply(optimizations, model)
    losses = evaluate(model, rows, lambda: False, TrainingPlan(Fit(4, 1, False, 1024), optimizations), ALONE)
    assert losses is not None
    return losses.loss


def test_what_is_exported_is_merged_into_the_unquantised_base(whole: Whole) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    made, _ = whole
    result = made.export(Export.decode({"merged": {}}))
    merged = AutoModelForCausalLM.from_pretrained(
        made.store.root / place("exports", result.key), dtype=torch.bfloat16
    ).state_dict()
    wanted = exact(made, adapter=True).merge_and_unload().state_dict()
    assert merged.keys() == wanted.keys()
    assert all(torch.equal(merged[name], wanted[name]) for name in wanted)


def test_what_is_compared_is_on_the_quantised_base_and_the_result_is_evaluated_once_more(
    tmp_path: Path,
) -> None:
    fields: dict[str, Any] = {**OVERFITTING, "epochs": None, "maxSteps": 3, "checkpoint": {"select": "best"}}
    made = world(tmp_path, held_out=partly_known(), quantization="nf4", **fields)
    told = made.train().training
    rows = [row for row in made.metrics() if "eval_loss" in row]
    assert [row["step"] for row in rows if "exported" not in row] == [0, 1, 2, 3]
    exported = rows[-1]
    assert (exported["exported"], exported["step"]) == (True, told.best_step)
    compared = next(row for row in rows if row["step"] == told.best_step)
    assert exported["eval_loss"] != compared["eval_loss"]
    assert exported["eval_loss"] == pytest.approx(compared["eval_loss"], rel=0.1)


def test_two_ranks_learn_what_one_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the rounding of bf16: they cut a step into other passes."""
    fields: dict[str, Any] = {"lora": {"dropout": "0"}, "epochs": None, "maxSteps": 2}
    made = world(tmp_path / "one", quantization="nf4", **fields)
    together = made.copy(tmp_path / "two")
    monkeypatch.setenv(CPU_RANKS_VARIABLE, "2")
    with Stage(together, tmp_path / "stage") as stage:
        assert stage.end() == ExitCode.DONE
    monkeypatch.delenv(CPU_RANKS_VARIABLE)
    made.train()
    ours, theirs = ([row["loss"] for row in each.metrics()] for each in (together, made))
    assert ours == pytest.approx(theirs, rel=1e-2)
    assert together.manifest().lineage["hardware"]["ranks"] == 2


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny model."""
    return tiny_model(tmp_path_factory.mktemp("base") / "tiny")


def quantised(directory: Path) -> Any:
    """The model in 4 bits with an adapter that has learned something."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    held = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.bfloat16, quantization_config=held, device_map={"": "cpu"}
    )
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(base, config).train()


def gradients(model: Any) -> list[Any]:
    import torch

    ids = torch.tensor([random_rows(1)[0]["input_ids"]])
    torch.autograd.backward(model(input_ids=ids, labels=ids, use_cache=False).loss)
    found = [each.grad for each in model.parameters() if each.grad is not None]
    model.zero_grad()
    return found


@pytest.mark.parametrize("settled", [True, False], ids=["as we leave it", "as bitsandbytes has it"])
def test_an_evaluation_on_the_way_changes_no_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled: bool
) -> None:
    """Where a processor has AVX512-BF16, bitsandbytes packs weights anew when it is asked without a gradient.
    Every processor is taken for such a one here."""
    import bitsandbytes
    import torch

    from lorafinetune_stages.train.nf4 import settle

    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: True)
    sides = {"hidden_size": 64, "intermediate_size": 128, "num_key_value_heads": 4}  # whole blocks of scales
    model = quantised(tiny_model(tmp_path / "tiny", **sides))
    if settled:
        settle(model.get_base_model())
    wanted = gradients(model)
    with torch.no_grad():
        model.eval()(input_ids=torch.tensor([random_rows(1)[0]["input_ids"]]))
    got = gradients(model.train())
    assert len(got) == len(wanted) > 0
    assert all(torch.equal(*pair) == settled for pair in zip(got, wanted, strict=True))


def test_the_unquantised_weights_are_there_for_a_while_and_leave_no_trace(directory: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from lorafinetune_stages.train.nf4 import layers, settle, unquantised

    model = quantised(directory).eval()
    base = model.get_base_model()
    settle(base)
    names, ids = set(model.state_dict()), torch.tensor([random_rows(1)[0]["input_ids"]])
    with torch.no_grad(), model.disable_adapter():
        before = model(ids).logits
        with unquantised(base):
            inside = model(ids).logits
        after = model(ids).logits
        exact = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)(ids).logits
    assert torch.equal(inside, exact)
    assert torch.equal(after, before)
    assert not torch.equal(before, exact)
    assert set(model.state_dict()) == names
    assert not any("forward" in vars(layer) for layer in layers(base))


def test_a_base_whose_files_name_weights_otherwise_stays_in_4_bits(
    directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from lorafinetune_stages.train.nf4 import layers, unquantised

    base = quantised(directory).get_base_model()
    base.name_or_path = str(tmp_path)
    with unquantised(base):
        assert not any("forward" in vars(layer) for layer in layers(base))
    assert "the base stays in 4 bits: its files do not have model.layers.0." in caplog.text


def test_a_base_that_is_not_in_4_bits_is_no_silent_fallback(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import AutoModelForCausalLM

    from lorafinetune_stages.train.nf4 import settle

    with pytest.raises(RuntimeError, match="no layer of LlamaForCausalLM is in 4 bits"):
        settle(AutoModelForCausalLM.from_pretrained(directory))
    with caplog.at_level(logging.INFO):
        settle(quantised(directory).get_base_model())
    assert "fast paths: the base is in nf4: 14 layers" in caplog.text


@pytest.mark.parametrize(("quantization", "compiled"), [("none", True), ("nf4", False)])
def test_layers_are_not_compiled_and_it_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, quantization: str, compiled: bool
) -> None:
    """On a card: the other fast paths stay on."""
    from lorafinetune_stages.train import optimizations

    monkeypatch.setattr(optimizations, "suits", lambda *_: True)
    monkeypatch.setattr(optimizations, "can_compile", lambda _: True)
    chosen = optimizations.choose(64, "bf16", "lora", 1, quantization)
    assert (chosen.attention, chosen.sparse_loss, chosen.cast) == ("varlen", True, True)
    assert (chosen.compiled, chosen.multiple > 1) == (compiled, compiled)
    assert ("layers are not compiled: that was not tried with a base in nf4" in caplog.text) != compiled


def test_a_base_that_is_quantised_already_is_refused() -> None:
    from lorafinetune_stages.prepare.preflight import check_quantization

    config = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    check_quantization(Training(epochs="1"), config)
    check_quantization(Training(epochs="1", quantization="nf4"), {})
    with pytest.raises(StageError) as refused:
        check_quantization(Training(epochs="1", quantization="nf4"), config)
    assert refused.value.reason is Reason.CONFIG_INVALID
    assert refused.value.message == "training.quantization: nf4: the base model is quantised already"


def test_a_layer_takes_as_much_as_is_estimated() -> None:
    from bitsandbytes.nn import Linear4bit

    layer = Linear4bit(1024, 1024, bias=False, quant_type="nf4").to("cpu")
    state = layer.weight.quant_state
    size = sum(each.nbytes for each in (layer.weight, state.absmax, state.state2.absmax))
    assert size == pytest.approx(WEIGHT_BYTES["nf4"] * 1024**2, rel=1e-3)


def test_bitsandbytes_is_not_imported_for_another_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "bitsandbytes" or name == "peft.tuners.lora.bnb":
            monkeypatch.delitem(sys.modules, name)
    made = world(tmp_path, epochs=None, maxSteps=1)
    made.train()
    assert "bitsandbytes" not in sys.modules
    assert not made.manifest().lineage["plan"]["nf4"]
