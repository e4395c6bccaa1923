"""What a card computes in is told before anything is downloaded."""

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.train.device import check_precision


@pytest.mark.parametrize(
    ("precision", "name", "capability"),
    [
        pytest.param("fp8", "NVIDIA L4", (8, 9), id="fp8 on the first card that has it"),
        pytest.param("bf16", "NVIDIA A100-SXM4-80GB", (8, 0), id="bf16 on the first card that has it"),
        pytest.param("fp16", "Tesla T4", (7, 5), id="fp16 on an old card"),
        pytest.param("fp32", "Tesla P100", (6, 0), id="fp32 on an older one"),
    ],
)
def test_it_computes_in(precision: str, name: str, capability: tuple[int, int]) -> None:
    check_precision(precision, name, capability)


@pytest.mark.parametrize(
    ("precision", "name", "capability", "message", "hint"),
    [
        pytest.param(
            "fp8",
            "NVIDIA A100-SXM4-80GB",
            (8, 0),
            "training.precision: fp8 needs compute capability 8.9, and the NVIDIA A100-SXM4-80GB has 8.0",
            "Set `spec.training.precision: bf16`",
            id="fp8 on a card before it",
        ),
        pytest.param(
            "bf16",
            "Tesla T4",
            (7, 5),
            "training.precision: bf16 needs compute capability 8.0, and the Tesla T4 has 7.5",
            "Set `spec.training.precision: fp16`",
            id="bf16 on a card that emulates it",
        ),
    ],
)
def test_it_does_not_compute_in(
    precision: str, name: str, capability: tuple[int, int], message: str, hint: str
) -> None:
    with pytest.raises(StageError) as refused:
        check_precision(precision, name, capability)
    assert (refused.value.reason, refused.value.message) == (Reason.CONFIG_INVALID, message)
    assert refused.value.hint.startswith(hint)
