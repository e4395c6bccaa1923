"""What other tests make up happens here, on a real card: memory that does not do, and a GPU that fails."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.train import packed_trainer
from stages.train_builders import World, random_rows, tiny_model, world

pytestmark = [pytest.mark.gpu, pytest.mark.model, pytest.mark.filterwarnings("ignore")]

LENGTH = 2048
SHAPE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "initializer_range": 0.02,
}
"""What its passes keep is most of its memory."""


def made_at(root: Path) -> World:
    root.mkdir()
    rows = random_rows(8, longest=LENGTH)
    fields: dict[str, Any] = {
        "lora": {"dropout": "0"},
        "learningRate": "1e-4",
        "cutoffLength": LENGTH,
        "epochs": "1",
    }
    return world(root, tiny_model(root / "base", **SHAPE), rows, **fields)


@dataclass
class Neighbour:
    """Another that takes all of the card but for `left` bytes, as soon as a training computes. Nothing is
    taken where that is None. allocated: what the training had then, and later at most."""

    left: int | None = None
    taken: list[torch.Tensor] = field(default_factory=list)
    allocated: int = 0

    def come(self) -> None:
        if self.taken or self.left is None:
            return
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        self.taken.append(torch.empty(free - self.left, dtype=torch.uint8, device="cuda"))

    def beside(self, monkeypatch: pytest.MonkeyPatch) -> None:
        through = packed_trainer.pack_nats

        def pack_nats(*arguments: Any) -> torch.Tensor:
            self.allocated = self.allocated or torch.cuda.memory_allocated()
            self.come()
            return through(*arguments)

        monkeypatch.setattr(packed_trainer, "pack_nats", pack_nats)


def pass_bytes(made: World, monkeypatch: pytest.MonkeyPatch) -> int:
    """What the passes of a training take beside the model, with the card to itself."""
    alone = Neighbour()
    with monkeypatch.context() as patched:
        alone.beside(patched)
        made.train(gpus=1)
    return torch.cuda.max_memory_allocated() - alone.allocated


def loss(made: World) -> float:
    return float(made.metrics()[-1]["loss"])


def test_a_card_that_fills_up_has_half_the_pack_and_the_same_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, made = made_at(tmp_path / "alone"), made_at(tmp_path / "made")
    needed = pass_bytes(alone, monkeypatch)
    neighbour = Neighbour(int(0.7 * needed))
    neighbour.beside(monkeypatch)
    made.train(gpus=1)
    before, plan = (each.manifest().lineage["plan"] for each in (alone, made))
    assert neighbour.taken
    assert plan["packTokens"] == -(-before["packTokens"] // 2)
    assert plan["gradientCheckpointing"] > before["gradientCheckpointing"]
    assert loss(made) == pytest.approx(loss(alone), rel=1e-2)


def test_a_card_that_is_full_is_told_with_what_was_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Neighbour(left=2**20).beside(monkeypatch)
    with pytest.raises(StageError) as caught:
        made_at(tmp_path / "made").train(gpus=1)
    assert caught.value.reason is Reason.CUDA_OUT_OF_MEMORY
    assert "CUDA out of memory" in caught.value.message
    assert "GiB were estimated" in caught.value.message


def fail(root: Path) -> tuple[Reason, str]:
    """What is told of a training in which a kernel writes where it may not. No other of this process can use
    the card after it."""
    from gpu.stray import write_astray

    through = packed_trainer.pack_nats

    def pack_nats(*arguments: Any) -> torch.Tensor:
        write_astray()
        return through(*arguments)

    pytest.MonkeyPatch().setattr(packed_trainer, "pack_nats", pack_nats)
    try:
        made_at(root).train(gpus=1)
    except StageError as problem:
        return problem.reason, problem.message
    raise AssertionError("a kernel that writes astray was not noticed")


def test_a_card_that_fails_is_told(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        reason, message = pool.submit(fail, tmp_path / "made").result()
    assert reason is Reason.GPU_FAULT
    assert "CUDA error" in message
