"""Layers that are launched as graphs, on a real card: they compute what the same layers do without."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from gpu.test_card import SHAPE
from lorafinetune_stages.train.collator import Collator
from lorafinetune_stages.train.graphs import GraphedLayers
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


def graphed(model: Any) -> GraphedLayers:
    return GraphedLayers(model.get_base_model(), [each for each in model.parameters() if each.requires_grad])


def check(got: list[Tensor], wanted: list[Tensor], again: list[Tensor]) -> None:
    """No farther from each other than two of the same."""
    for one, other, repeated in zip(got, wanted, again, strict=True):
        assert (one - other).norm() <= 2 * (repeated - other).norm() + 1e-6 * other.norm()


def test_gradients_add_up_in_steps_of_two_passes_as_without_graphs(model: Any) -> None:
    plain, again = steps(model, None), steps(model, None)
    graphs = graphed(model)
    check(steps(model, graphs), plain, again)
    assert len(graphs._graphs) == 3
    check(steps(model, graphs), plain, again)
    model.zero_grad()


def test_layers_that_cannot_be_captured_run_without_and_it_says_so(
    model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A device that is asked for a number waits, which no graph can."""
    plain, again = steps(model, None), steps(model, None)
    norm = model.get_base_model().model.norm
    hook = norm.register_forward_hook(lambda *given: torch.cuda.current_stream().synchronize())
    check(steps(model, graphed(model)), plain, again)
    hook.remove()
    assert "layers are not launched as graphs" in caplog.text
