"""Models whose files are complete, though they are not what the architecture holds name for name."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lorafinetune_stages.prepare.basemodel import read_base_model
from stages.peer import GLM_CONFIG, header
from stages.prepare_builders import TINY_MODEL, Bench

pytestmark = pytest.mark.model

Shapes = dict[str, Sequence[int]]

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TIED = {
    "model_type": "qwen3",
    "num_key_value_heads": 1,
    "vocab_size": 100,
    "tie_word_embeddings": True,
    **SMALL,
}
EXPERTS = {
    "model_type": "qwen2_moe",
    "num_key_value_heads": 1,
    "vocab_size": 100,
    "num_experts": 4,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    **SMALL,
}


def split_experts(shapes: Shapes) -> Shapes:
    """As such models are published: every expert for itself, and its first two layers apart."""
    found: Shapes = {}
    for name, shape in shapes.items():
        where, _, part = name.rpartition(".experts.")
        if part == "gate_up_proj":
            halves: Shapes = {half: [shape[1] // 2, shape[2]] for half in ("gate_proj", "up_proj")}
        elif part == "down_proj":
            halves = {part: shape[1:]}
        else:
            found[name] = shape
            continue
        for expert in range(shape[0]):
            found |= {f"{where}.experts.{expert}.{half}.weight": size for half, size in halves.items()}
    return found


WHOLE: dict[str, tuple[Mapping[str, Any], Callable[[Shapes], Shapes]]] = {
    "as the architecture has them": (GLM_CONFIG, dict),
    "a few more": (GLM_CONFIG, lambda shapes: shapes | {"rotary.inv_freq": [8]}),
    "without the name of the inner model": (
        GLM_CONFIG,
        lambda shapes: {name.removeprefix("model."): shape for name, shape in shapes.items()},
    ),
    "a head that is the embedding, and is in the files": (TIED, dict),
    "a head that is the embedding, and is not in the files": (
        TIED,
        lambda shapes: {name: shape for name, shape in shapes.items() if name != "lm_head.weight"},
    ),
    "every expert for itself": (EXPERTS, split_experts),
    "a quantised model": (
        GLM_CONFIG | {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        lambda shapes: {f"{name}.qweight": shape for name, shape in shapes.items()},
    ),
}


@pytest.mark.parametrize("sentence", WHOLE)
def test_complete_is(sentence: str, caplog: pytest.LogCaptureFixture) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from lorafinetune_stages.prepare.weights import check_weights

    config, change = WHOLE[sentence]
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    shapes: Shapes = {name: [*tensor.shape] for name, tensor in network.state_dict().items()}
    check_weights(network, change(shapes))
    assert [record for record in caplog.records if "can't be told" in record.getMessage()] == []


def test_the_shapes_are_those_of_all_files_that_the_index_names(tmp_path: Path) -> None:
    from lorafinetune_stages.prepare.weights import read_shapes

    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    index = {"weight_map": {"a": first, "b": second}}
    files = {name: data for name, data in TINY_MODEL.items() if name != "model.safetensors"} | {
        first: header({"a": [2, 3]}),
        second: header({"b": [4]}),
        "model.safetensors.index.json": json.dumps(index).encode(),
    }
    bench = Bench(tmp_path, files)
    model = read_base_model(bench.store, bench.model)
    assert read_shapes(bench.store, model) == {"a": (2, 3), "b": (4,)}
