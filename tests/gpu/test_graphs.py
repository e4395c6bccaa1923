"""Layers that are launched as graphs, on a real card: they compute what the same layers do without."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from gpu.test_card import SHAPE, made_at
from lorafinetune_stages.train import packed_trainer
from lorafinetune_stages.train.collator import Collator
from lorafinetune_stages.train.graphs import Capture, GraphedLayers
from lorafinetune_stages.train.optimizations import COMPILED_MULTIPLE, Optimizations, apply
from lorafinetune_stages.train.packed_trainer import pack_nats
from stages.train_builders import random_rows, tiny_model

pytestmark = [pytest.mark.gpu, pytest.mark.model, pytest.mark.filterwarnings("ignore")]

OPTIMIZATIONS = Optimizations(
    "varlen", compiled=True, multiple=COMPILED_MULTIPLE, mixed="bfloat16", cast=True, fp8=True, graphed=True
)
STEPS = ((5, 900), (12, 300), (5, 900), (12, 300), (3, 2000), (5, 900))
"""Conversations, and their greatest length: some passes are captured, and some are replayed."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """With an adapter that has learned something."""
    directory = tiny_model(tmp_path_factory.mktemp("base") / "tiny", **SHAPE)
    base = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    config = LoraConfig(r=4, lora_alpha=12, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(base, config, autocast_adapter_dtype=True).train().cuda()
    apply(OPTIMIZATIONS, model)
    return model


def passes() -> list[dict[str, Any]]:
    """On the card; no two have the same tokens."""
    found = [
        Collator(10_000, COMPILED_MULTIPLE)(random_rows(number, longest=longest))["passes"][0]
        for number, longest in STEPS
    ]
    for place, each in enumerate(found):
        each["input_ids"] = each["input_ids"].roll(place)
    return [
        {name: value.cuda() if torch.is_tensor(value) else value for name, value in each.items()}
        for each in found
    ]


def steps(model: Any, graphs: GraphedLayers | None) -> list[Tensor]:
    """Gradients of steps of two passes."""
    found = []
    trained = [each for each in model.parameters() if each.requires_grad]
    for place, each in enumerate(passes()):
        with torch.autocast("cuda", torch.bfloat16):
            torch.autograd.backward(pack_nats(model.get_base_model(), each, OPTIMIZATIONS, graphs=graphs))
        if place % 2:
            found.append(torch.cat([parameter.grad.flatten() for parameter in trained]))
            graphs.zero_gradients() if graphs else model.zero_grad()
    return found


def graphed(model: Any, capture: Capture) -> GraphedLayers:
    trained = [each for each in model.parameters() if each.requires_grad]
    return GraphedLayers(model.get_base_model(), trained, capture)


def check(got: list[Tensor], wanted: list[Tensor], again: list[Tensor]) -> None:
    """No farther from each other than two of the same."""
    for one, other, repeated in zip(got, wanted, again, strict=True):
        assert (one - other).norm() <= 2 * (repeated - other).norm() + 1e-6 * other.norm()


def test_gradients_add_up_in_steps_of_two_passes_as_without_graphs(model: Any) -> None:
    plain, again = steps(model, None), steps(model, None)
    capture = Capture()
    graphs = graphed(model, capture)
    check(steps(model, graphs), plain, again)
    assert (len(graphs._graphs), capture.is_used) == (3, True)
    check(steps(model, graphs), plain, again)
    model.zero_grad()


def wait(*_: Any) -> None:
    """As a device does that is asked for a number, which no graph can."""
    torch.cuda.current_stream().synchronize()


def hoard(*_: Any) -> None:
    """As a card whose memory does for layers, and not for a graph of them."""
    if torch.cuda.is_current_stream_capturing():
        torch.empty(2**47, dtype=torch.uint8, device="cuda")


@pytest.mark.parametrize(("hurt", "why"), [(wait, "during capture"), (hoard, "out of memory")])
def test_layers_that_cannot_be_captured_run_without_and_it_says_so(
    model: Any, caplog: pytest.LogCaptureFixture, hurt: Callable[..., None], why: str
) -> None:
    plain, again, capture = steps(model, None), steps(model, None), Capture()
    hook = model.get_base_model().model.norm.register_forward_hook(hurt)
    check(steps(model, graphed(model, capture)), plain, again)
    hook.remove()
    assert "layers are not launched as graphs" in caplog.text
    assert why in caplog.text
    assert not capture.is_possible
    gives_memory_back()


def gives_memory_back() -> None:
    """Of what was freed, a larger piece than any that was."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    for share in (0.6, 0.7):
        torch.empty(int(share * free), dtype=torch.uint8, device="cuda")


@pytest.mark.parametrize("waits", [False, True], ids=["can be captured", "can not"])
def test_the_lineage_of_a_training_says_whether_its_layers_were_captured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, waits: bool
) -> None:
    def applied(optimizations: Optimizations, model: Any) -> None:
        apply(optimizations, model)
        if waits:
            model.get_base_model().model.norm.register_forward_hook(wait)

    monkeypatch.setattr(packed_trainer, "apply", applied)
    made = made_at(tmp_path / "made").training(cutoffLength=2048, precision="fp8", epochs="4")
    made.train(gpus=1)
    told = [record.getMessage() for record in caplog.records if "launched as graphs" in record.getMessage()]
    assert made.manifest().lineage["plan"]["optimizations"]["graphed"] != waits, told
    assert bool(told) == waits, told


def test_a_graph_that_is_launched_again_drops_others(tmp_path: Path) -> None:
    """The same pass, with the same weights, four times: without a graph, captured, and launched twice."""
    config = LoraConfig(
        r=4, lora_alpha=12, lora_dropout=0.5, target_modules="all-linear", init_lora_weights=False
    )
    base = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path / "tiny", **SHAPE), dtype=torch.bfloat16)
    dropping = get_peft_model(base, config, autocast_adapter_dtype=True).train().cuda()
    apply(OPTIMIZATIONS, dropping)
    graphs, pack = graphed(dropping, Capture()), passes()[0]
    with torch.autocast("cuda", torch.bfloat16):
        found = [float(pack_nats(base, pack, OPTIMIZATIONS, graphs=graphs)) for _ in range(4)]
    assert (len(graphs._graphs), len(set(found))) == (1, 4), found
