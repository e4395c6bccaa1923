"""The estimate of activations against what real layers with real adapters keep for the way back."""

from typing import Any

import pytest

from lorafinetune.api.training import Training

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize(
    ("model", "training"),
    [
        pytest.param("GLM-4-9B", {}, id="GLM"),
        pytest.param("Llama-3.1-8B", {}, id="LLaMA"),
        pytest.param("Qwen3-1.7B", {"lora": {"rank": 64}}, id="Qwen3, with a large rank"),
        pytest.param("Llama-3.1-8B", {"precision": "fp32"}, id="in fp32"),
        pytest.param("Llama-3.1-8B", {"lora": {"variant": "dora"}}, id="decomposed"),
        pytest.param("GLM-4-9B", {"quantization": "nf4"}, id="on a base in 4 bits"),
    ],
)
def test_a_token_keeps_as_much_as_is_estimated(model: str, training: dict[str, Any]) -> None:
    from bench.memory.counted import kept_of_a_token

    counted, estimated = kept_of_a_token(model, Training.decode({"epochs": "1", **training}))
    assert 0.95 * counted < estimated < 1.1 * counted
