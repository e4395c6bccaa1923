"""The stage on a real GPU, with everything on that makes it fast. To be run alone, in a fresh process:
the stage hides the GPUs from a process that trained on the CPU."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.train.shape import TINY, make_model
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError, TrainResult
from lorafinetune_stages.train import seams
from lorafinetune_stages.train.levers import Levers
from lorafinetune_stages.train.packing import Packer
from stages.test_train_packing import loss_and_gradients, padded, tuned
from stages.train_builders import World, random_rows, tiny_model, world

pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]

ALL = Levers(packing=True, learned_loss=True, direct_lora=True, compiled=True)
STEPS = 6


@pytest.fixture(scope="module", params=["glm", "llama"])
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[World, TrainResult]:
    root = tmp_path_factory.mktemp(request.param)
    if request.param == "glm":
        make_model(root / "tiny", TINY, "cpu")
    else:
        tiny_model(root / "tiny")
    evaluation = {"fraction": "0.2", "everySteps": 2}
    made = world(root, model=root / "tiny", evaluation=evaluation, checkpoint={"every": 1, "keep": "all"})
    made = replace(made, arguments=made.arguments.model_copy(update={"gpus": 1}))
    return made, made.train()


def test_a_training_on_a_gpu_has_everything_on(whole: tuple[World, TrainResult]) -> None:
    made, result = whole
    lineage = made.manifest().lineage
    assert lineage["levers"] == ALL.names()
    assert lineage["hardware"]["gpu"] == torch.cuda.get_device_name()
    assert not lineage["gradientCheckpointing"]
    assert result.training.step == STEPS
    assert result.gpu_seconds.held >= result.gpu_seconds.training
    assert result.gpu_seconds.held > 0
    assert len([row for row in made.metrics() if "eval_loss" in row]) == 3


def test_a_training_that_is_told_to_leave_goes_on_where_it_was(
    whole: tuple[World, TrainResult], tmp_path: Path
) -> None:
    made, _ = whole
    left = made.copy(tmp_path)
    left.store.delete(f"trainings/{made.arguments.key}/checkpoints")
    with pytest.raises(StageError) as stopped:
        left.interrupted_train(3)
    assert stopped.value.reason is Reason.PREEMPTED
    assert left.checkpoints()[-1] == 3
    left.train()
    assert left.manifest().lineage["resumes"] == 1
    assert losses(left) == pytest.approx(losses(made), rel=1e-2)


def losses(made: World) -> list[float]:
    return [row["loss"] for row in made.metrics() if "loss" in row]


@pytest.mark.parametrize("family", ["llama", "glm"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_packed_and_padded_gradients_agree_in_bf16(family: str, compiled: bool) -> None:
    rows = random_rows(5)
    levers = Levers(packing=True, learned_loss=True, direct_lora=True, compiled=compiled)
    packed = Packer(24, 64)([{name: torch.tensor(row[name]).numpy() for name in row} for row in rows])
    packed.pop("tokens")
    _, fast = loss_and_gradients(seams.accelerated(in_bf16(family), levers), on_gpu(packed))
    _, slow = loss_and_gradients(in_bf16(family), on_gpu(padded(rows)))
    _, exact = loss_and_gradients(tuned(family).cuda(), on_gpu(padded(rows)))
    assert distance(fast, exact) <= 1.5 * distance(slow, exact)
    assert distance(fast, slow) <= 2e-2


def in_bf16(family: str) -> Any:
    """Base in bf16, adapter in fp32, under autocast: what the trainer has."""
    model = tuned(family).cuda()
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    model.forward = torch.autocast("cuda", dtype=torch.bfloat16)(model.forward)
    return model


def on_gpu(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value.cuda() if torch.is_tensor(value) else value for name, value in batch.items()}


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Relative, over all parameters together."""
    apart = sum(float((one[name].float() - other[name].float()).square().sum()) for name in other)
    size = sum(float(other[name].float().square().sum()) for name in other)
    return float((apart / size) ** 0.5)
