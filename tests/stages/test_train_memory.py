"""A GPU whose memory does not do: once more with less in one pass, and the same result.

There is no GPU here. What stands in for its memory raises torch's own error where a pack is too large for it.
"""

from itertools import count
from typing import Any

import pytest
import torch

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.train import fit, packed_trainer, stage
from lorafinetune_stages.train.meter import Meter
from stages.train_builders import World, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

ROOMY = 100
"""Tokens in a pack: a step's four conversations and more."""


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(fit, "CPU_PACK_TOKENS", ROOMY)
    return world(tmp_path_factory.mktemp("memory"), checkpoint={"every": 1, "keep": "all"})


def hold(tokens: int, monkeypatch: pytest.MonkeyPatch, from_call: int = 0) -> list[int]:
    """Lets no larger pack through after `from_call` packs. Returns the lengths of all."""
    asked: list[int] = []
    through = packed_trainer.pack_nats

    def pack_nats(base: Any, pack: Any, *others: Any) -> torch.Tensor:
        asked.append(pack["input_ids"].shape[1])
        if asked[-1] > tokens and len(asked) > from_call:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return through(base, pack, *others)

    monkeypatch.setattr(packed_trainer, "pack_nats", pack_nats)
    return asked


@pytest.mark.parametrize("from_call", [0, 1], ids=["in the first step", "after a checkpoint"])
def test_it_goes_on_with_half_the_pack(made: World, monkeypatch: pytest.MonkeyPatch, from_call: int) -> None:
    asked = hold(ROOMY // 2, monkeypatch, from_call)
    result = made.train()
    assert max(asked) > ROOMY // 2
    assert made.manifest().lineage["plan"]["packTokens"] == ROOMY // 2
    assert made.manifest().lineage["plan"]["gradientCheckpointing"]
    assert result.training.step == result.training.total_steps == 6
    assert made.progress().resumed_from == (from_call or None)


def test_what_it_costs_never_goes_back(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is a second, on a GPU that is made up."""
    told: list[int] = []

    class Told(Reporter):
        def update(self, **changes: Any) -> None:
            told.extend([changes["gpu_seconds"].held] if "gpu_seconds" in changes else [])
            super().update(**changes)

    clock = count()
    monkeypatch.setattr(stage, "Meter", lambda gpus: Meter(1, lambda: float(next(clock))))
    hold(ROOMY // 2, monkeypatch, from_call=2)
    made.train_with(Told("train", made.root / "told"))
    assert len(told) > 3
    assert told == sorted(told)
    assert told[0] > 0


def test_it_is_tried_once_more_and_no_more(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hold(1, monkeypatch)
    with pytest.raises(StageError) as caught:
        made.train()
    assert caught.value.reason is Reason.CUDA_OUT_OF_MEMORY
    assert "GiB were estimated" in caught.value.message
    assert len(asked) == 2
