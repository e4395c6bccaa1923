"""The base and the tuned model answer from a card."""

from pathlib import Path

import pytest
import torch

from lorafinetune_stages import talk
from stages.test_talk import an_adapter, blocks
from stages.train_builders import tiny_model

pytestmark = [pytest.mark.gpu, pytest.mark.model, pytest.mark.filterwarnings("ignore")]


def test_both_answer_from_a_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = tiny_model(tmp_path / "tiny")
    places = [str(base), str(an_adapter(base, tmp_path / "adapter"))]
    torch.cuda.reset_peak_memory_stats()
    assert talk.main(["--tokens", "8", *places, "--", "Hi"]) == 0
    (_, _), (_, said), (_, learned) = blocks(capsys.readouterr().out)
    assert said != learned
    assert torch.cuda.max_memory_allocated() > 0
