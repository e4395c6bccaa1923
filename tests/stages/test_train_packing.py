"""Packed conversations learn what padded ones learn: the same losses, the same gradients, and nothing of
each other."""

import copy
import inspect
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NoReturn

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.api.training import Training
from lorafinetune.contract.outcome import StageError, TrainResult
from stages.train_builders import ROWS, Row, World, random_rows, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

EXACT = {"lora": {"rank": 4, "alpha": 8, "dropout": "0"}, "precision": "fp32"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(tmp_path_factory.mktemp("packing"))


def losses(made: World, **fields: Any) -> list[float]:
    """Of the steps, and on the held-out rows after the second."""
    run = made.training(**fields, evaluation={"fraction": "0.2", "everySteps": 2})
    run.train()
    return [row.get("loss") or row["eval_loss"] for row in run.metrics()]


@pytest.mark.parametrize(
    ("fields", "tolerance"),
    [
        pytest.param(EXACT, 1e-5, id="fp32"),
        pytest.param({**EXACT, "precision": "bf16"}, 1e-2, id="bf16"),
        pytest.param({**EXACT, "lora": {"variant": "dora", "dropout": "0"}}, 1e-5, id="DoRA"),
        pytest.param({**EXACT, "batchSize": 3}, 1e-5, id="an odd batch"),
    ],
)
def test_the_losses_of_a_training_are_those_of_padded_conversations(
    made: World, fields: Mapping[str, Any], tolerance: float
) -> None:
    padded = losses(made, **fields, packing="none")
    assert losses(made, **fields, packing="auto") == pytest.approx(padded, rel=tolerance)


def test_what_can_not_be_packed_is_padded(made: World) -> None:
    run = made.training(epochs=None, maxSteps=1, extraArgs={"neftune_noise_alpha": "5"})
    run.train()
    assert run.manifest().lineage["plan"]["optimizations"] is None


def test_the_plan_is_in_the_lineage(made: World) -> None:
    run = made.training(epochs=None, maxSteps=1)
    run.train()
    assert run.manifest().lineage["plan"] == {
        "microBatch": 4,
        "packTokens": 1024,
        "gradientCheckpointing": False,
        "estimatedBytes": 0,
        "nf4": False,
        "optimizations": {
            "attention": "each",
            "sparse_loss": True,
            "compiled": False,
            "multiple": 1,
            "mixed": "bfloat16",
            "cast": True,
            "fp8": False,
            "graphed": False,
        },
    }


def test_tokens_are_counted_without_padding(made: World) -> None:
    run = made.training(epochs="1")
    run.train()
    assert run.metrics()[-1]["tokens"] == sum(len(row["input_ids"]) for row in random_rows(10))


TOKENS: Mapping[str, Any] = {"packing": "tokens", "batchTokens": 48, "batchSize": None}


@pytest.fixture(scope="module")
def in_tokens(made: World) -> tuple[World, TrainResult]:
    """Two epochs in steps of 48 tokens, with dropout and evaluation, nobody disturbed."""
    run = made.training(**TOKENS, evaluation={"fraction": "0.2", "everySteps": 2}, checkpoint={"every": 1})
    return run, run.train()


def test_steps_of_tokens_have_as_many_as_fit(in_tokens: tuple[World, TrainResult]) -> None:
    run, result = in_tokens
    lengths = [len(row["input_ids"]) for row in random_rows(ROWS)]
    packs = -(-sum(lengths) // 48)
    assert result.training.step == result.training.total_steps == 2 * packs
    tokens = [0, *(row["tokens"] for row in run.metrics() if "loss" in row)]
    steps = [after - before for before, after in pairwise(tokens)]
    assert max(steps) <= 48
    assert [sum(steps[:packs]), sum(steps[packs:])] == [sum(lengths)] * 2
    assert sorted(steps[:packs]) == sorted(steps[packs:])


def test_steps_of_tokens_are_in_the_lineage(in_tokens: tuple[World, TrainResult]) -> None:
    lineage = in_tokens[0].manifest().lineage
    assert (lineage["batchTokens"], lineage["plan"]["microBatch"]) == (48, 1)
    assert "batchSize" not in lineage


@pytest.mark.parametrize("step", [1, 4], ids="after step {}".format)
def test_a_training_in_steps_of_tokens_goes_on(
    in_tokens: tuple[World, TrainResult], tmp_path: Path, step: int
) -> None:
    run, result = in_tokens
    left = run.copy(tmp_path)
    left.store.delete(f"trainings/{run.arguments.key}/checkpoints")
    with pytest.raises(StageError) as stopped:
        left.interrupted_train(step)
    assert stopped.value.reason is Reason.PREEMPTED
    assert left.train().adapter.digest == result.adapter.digest
    assert left.metrics() == run.metrics()


def test_how_the_held_out_rows_are_packed_is_the_same(
    in_tokens: tuple[World, TrainResult], made: World
) -> None:
    """Of an adapter that has learned nothing yet."""
    evaluated: Mapping[str, Any] = {
        "epochs": None,
        "maxSteps": 1,
        "learningRate": "1e-12",
        "evaluation": {"fraction": "0.2", "everySteps": 1},
    }
    losses = []
    for fields in ({}, TOKENS):
        run = made.training(**evaluated, **fields)
        run.train()
        losses.append(run.metrics()[-1]["eval_loss"])
    assert losses[0] == losses[1]


def test_steps_of_tokens_need_a_model_that_can_be_packed() -> None:
    from transformers import AutoConfig

    from lorafinetune_stages.train.optimizations import check_packing

    training = Training(epochs="1", packing="tokens", batch_tokens=4096)
    check_packing(training, AutoConfig.for_model("llama"))
    check_packing(Training(epochs="1"), AutoConfig.for_model("gemma2"))
    with pytest.raises(StageError) as refused:
        check_packing(training, AutoConfig.for_model("gemma2"))
    assert refused.value.reason is Reason.CONFIG_INVALID
    assert refused.value.message == (
        "training.packing: tokens is not known to suit a model of type gemma2 with training.cutoffLength 2048"
    )
    assert refused.value.hint


Prepare = Callable[[Sequence[Row]], dict[str, Any]]


FAMILIES: Final = ("glm", "glm4", "llama", "mistral", "qwen2", "qwen3")


def test_every_family_is_tried() -> None:
    from lorafinetune_stages.train.optimizations import MODEL_TYPES

    assert set(FAMILIES) == MODEL_TYPES


@pytest.fixture(scope="module", params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny model in fp32 with packed attention."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from lorafinetune_stages.train import attention

    shape = {
        "vocab_size": 259,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pad_token_id": 0,
        "initializer_range": 0.2,
    }
    config = AutoConfig.for_model(request.param, **shape)
    model = AutoModelForCausalLM.from_config(config)
    attention.register("each")
    model.set_attn_implementation(attention.NAME)
    return model


def hidden(base: Any, rows: Sequence[Row], multiple: int = 1) -> Any:
    """The last hidden states of the rows in one pack, [tokens, width]."""
    from lorafinetune_stages.train.collator import Collator

    (pack,) = Collator(10_000, multiple)(rows)["passes"]
    inputs = {name: pack[name] for name in pack if name not in ("sources", "targets")}
    return base.model(**inputs, use_cache=False).last_hidden_state[0]


def test_a_conversation_in_a_pack_is_as_it_is_alone(base: Any) -> None:
    import torch

    rows = random_rows(4)
    alone = torch.cat([hidden(base, [row]) for row in rows])
    torch.testing.assert_close(hidden(base, rows), alone)
    torch.testing.assert_close(hidden(base, rows, 64)[: len(alone)], alone)


def test_a_conversation_does_not_see_its_neighbours(base: Any) -> None:
    """Changes one conversation of three, and looks at the others to the bit."""
    import torch

    first, second, third = random_rows(3)
    changed = {**second, "input_ids": [token ^ 1 for token in second["input_ids"]]}
    before, after = hidden(base, [first, second, third]), hidden(base, [first, changed, third])
    start, end = len(first["input_ids"]), len(first["input_ids"]) + len(second["input_ids"])
    assert torch.equal(before[:start], after[:start])
    assert torch.equal(before[end:], after[end:])
    assert not torch.equal(before[start:end], after[start:end])


@pytest.mark.parametrize("sparse", [True, False], ids=["where something is learned", "everywhere"])
@pytest.mark.parametrize("limit", [10_000, 30], ids=["one pack", "several packs"])
def test_loss_and_gradients_are_those_of_padded_conversations(base: Any, sparse: bool, limit: int) -> None:
    import torch

    from lorafinetune_stages.train.collator import Collator
    from lorafinetune_stages.train.optimizations import Optimizations
    from lorafinetune_stages.train.packed_trainer import pack_nats

    rows = random_rows(5)
    matrix = base.model.layers[0].self_attn.q_proj.weight
    base.requires_grad_(False)
    matrix.requires_grad_(True)
    batch = Collator(limit)(rows)
    nats = torch.stack(
        [pack_nats(base, pack, Optimizations(sparse_loss=sparse)) for pack in batch["passes"]]
    ).sum()
    expected = torch.stack([padded_nats(base, row) for row in rows]).sum()
    torch.testing.assert_close(nats, expected)
    (gradient,) = torch.autograd.grad(nats, matrix)
    (wanted,) = torch.autograd.grad(expected, matrix)
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-5)


def test_a_head_whose_logits_are_made_everywhere_is_told_of(
    base: Any, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    from lorafinetune_stages.train.optimizations import Optimizations, apply

    base.requires_grad_(False)
    biased, told = copy.deepcopy(base), "logits are made at all places"
    biased.lm_head.bias = torch.nn.Parameter(torch.zeros(biased.config.vocab_size))
    for model, is_told in ((base, False), (biased, True)):
        apply(Optimizations(), SimpleNamespace(get_base_model=lambda model=model: model))
        assert (told in caplog.text) == is_told


def padded_nats(base: Any, row: Row) -> Any:
    import torch

    logits = base(torch.tensor([row["input_ids"]]), use_cache=False).logits[0]
    labels = torch.tensor(row["labels"])
    return torch.nn.functional.cross_entropy(logits[:-1], labels[1:], reduction="sum")


def test_a_loss_in_chunks_is_the_loss_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from lorafinetune_stages.train import loss

    torch.manual_seed(0)
    states, weight = torch.randn(11, 6, requires_grad=True), torch.randn(20, 6)
    targets = torch.randint(20, (11,))
    monkeypatch.setattr(loss, "CHUNK_PLACES", 4)
    nats = loss.learned_nats(states, weight, targets)
    wanted = torch.nn.functional.cross_entropy(states @ weight.T, targets, reduction="sum")
    torch.testing.assert_close(nats, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(value, states)[0] for value in (nats, wanted)))


def test_a_model_with_a_narrow_window_is_padded(tmp_path: Path) -> None:
    from transformers import AutoConfig

    from lorafinetune_stages.train.optimizations import can_pack

    windowed = AutoConfig.for_model("mistral", sliding_window=16)
    assert not can_pack(windowed, 17)
    assert can_pack(windowed, 16)
    assert not can_pack(AutoConfig.for_model("gemma2"), 16)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("training_step", ["self", "model", "inputs", "num_items_in_batch"]),
        ("_clip_grad_norm", ["self", "model"]),
        ("floating_point_ops", ["self", "inputs"]),
        ("_get_num_items_in_batch", ["self", "batch_samples", "device"]),
        ("_track_num_input_tokens", ["self", "inputs"]),
        ("_save_checkpoint", ["self", "model", "trial"]),
        ("_save_rng_state", ["self", "output_dir"]),
        ("save_model", ["self", "output_dir", "_internal_call"]),
    ],
)
def test_what_is_replaced_in_the_trainer_is_there(name: str, parameters: list[str]) -> None:
    from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer

    from lorafinetune_stages.train.packed_trainer import PackedTrainer

    for trainer in (CustomSeq2SeqTrainer, PackedTrainer):
        assert list(inspect.signature(getattr(trainer, name)).parameters) == parameters


def test_what_is_replaced_in_the_run_is_used_there() -> None:
    from llamafactory.train import tuner
    from llamafactory.train.sft import workflow

    source = inspect.getsource(workflow.run_sft)
    assert "data_collator = SFTDataCollatorWith4DAttentionMask(" in source
    assert "trainer = CustomSeq2SeqTrainer(" in source
    assert "model = load_model(tokenizer, model_args, finetuning_args, training_args.do_train)" in source
    assert "if dist.is_initialized():" in inspect.getsource(tuner._training_function)


@pytest.mark.parametrize("quantised", [False, True], ids=["bf16", "FP8"])
def test_layers_are_compiled_once_for_packs_of_all_lengths(
    monkeypatch: pytest.MonkeyPatch, quantised: bool
) -> None:
    """Without a device: FlashAttention is there as a shape alone, and so are products in FP8. The first
    layer, whose input needs no gradient, has a program of its own."""
    import torch
    from peft import LoraConfig, get_peft_model
    from torch._dynamo.utils import counters
    from transformers import AutoConfig, AutoModelForCausalLM

    from lorafinetune_stages.train import fp8
    from lorafinetune_stages.train.collator import Collator
    from lorafinetune_stages.train.optimizations import Optimizations, apply, compile_layers

    shape = {"hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 2, "pad_token_id": 0}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 259}
    config = AutoConfig.for_model("glm", **shape, **heads)
    base = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.1)).to("meta")
    monkeypatch.setattr(fp8, "NARROW", 0)
    apply(Optimizations(attention="varlen", cast=True, fp8=quantised), model)
    torch._dynamo.reset()
    counters.clear()
    compile_layers(base, backend="aot_eager")
    for number in (3, 5):
        (pack,) = Collator(10_000, 64)(random_rows(number, longest=90))["passes"]
        inputs = {
            name: value.to("meta") if isinstance(value, torch.Tensor) else value
            for name, value in pack.items()
            if name not in ("sources", "targets")
        }
        base.model(**inputs, use_cache=False).last_hidden_state.sum().backward()
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]


@pytest.mark.parametrize(("conversations", "bounds"), [(3, 9), (8, 9), (9, 17)])
def test_a_graph_gets_empty_conversations_behind_those_of_a_pack(conversations: int, bounds: int) -> None:
    from lorafinetune_stages.train.collator import Collator
    from lorafinetune_stages.train.graphs import fixed

    (pack,) = Collator(10_000, 64)(random_rows(conversations, longest=90))["passes"]
    length = pack["input_ids"].shape[1]
    inputs = fixed(pack)
    own = pack["cu_seq_lens_q"].tolist()
    assert inputs["cu_seq_lens_q"].tolist() == own + [length] * (bounds - len(own))
    assert inputs["max_length_q"] == length
    assert not {"sources", "targets"} & inputs.keys()


@pytest.mark.parametrize("works", [True, False], ids=["does its work", "does not"])
def test_layers_are_compiled_where_a_compiler(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, works: bool
) -> None:
    import torch
    from torch._inductor import config
    from torch._inductor.utils import fresh_cache

    from lorafinetune_stages.train.optimizations import can_compile

    works = works and shutil.which("g++") is not None
    if not works:
        monkeypatch.setattr(config.cpp, "cxx", ("false",))
    torch.compiler.reset()
    with fresh_cache():
        assert can_compile("cpu") == works
    torch.compiler.reset()
    assert ("layers are not compiled, which costs a third of the speed: " in caplog.text) != works


@pytest.mark.parametrize("checkpointing", [False, True])
def test_layers_that_are_computed_twice_are_not_captured(checkpointing: bool) -> None:
    from lorafinetune_stages.train.fit import Fit
    from lorafinetune_stages.train.optimizations import Optimizations
    from lorafinetune_stages.train.plan import TrainingPlan

    plan = TrainingPlan(Fit(8, 1, False, 8192), Optimizations(compiled=True, fp8=True, graphed=True))
    assert plan.refit(Fit(8, 1, checkpointing, 4096)).facts()["optimizations"]["graphed"] != checkpointing


@pytest.mark.parametrize("is_full", [False, True], ids=["at all", "in the memory that is left"])
def test_a_training_whose_layers_can_not_be_captured_is_not_graphed_in_its_lineage(
    made: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_full: bool,
) -> None:
    """What asks a driver is made up: there is none here, and where there is one, layers can be captured."""
    import torch

    from lorafinetune_stages.train import launch
    from lorafinetune_stages.train.optimizations import Optimizations

    own = made.training(epochs=None, maxSteps=3)
    graphed, plain = own.copy(tmp_path / "graphed"), own.copy(tmp_path / "plain")
    asked = Optimizations(mixed="bfloat16", cast=True, multiple=64, graphed=True)
    left = replace(asked, graphed=False)
    with monkeypatch.context() as patched:
        patched.setattr(launch, "choose", lambda *_: left)
        wanted = plain.train()
    monkeypatch.setattr(launch, "choose", lambda *_: asked)
    for name in ("current_stream", "set_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    problem = (torch.OutOfMemoryError if is_full else RuntimeError)("not here")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: refuse(problem))
    trained = graphed.train()
    monkeypatch.undo()
    assert caplog.text.count("layers are not launched as graphs: they can't be captured: not here") == 1
    assert graphed.manifest().lineage["plan"]["optimizations"] == left.facts()
    assert trained.adapter.digest == wanted.adapter.digest


def refuse(problem: Exception) -> NoReturn:
    raise problem
