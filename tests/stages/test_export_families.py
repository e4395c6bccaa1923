"""The merge of models whose weights are stored, fused, tied or tuned in other ways, each held against
LLaMA-Factory's own export of the same adapter."""

import logging
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import ExportResult, StageError
from stages.export_builders import untrained
from stages.test_export import IN_SHARDS, MERGED, assert_equal, directory, load, peer_export
from stages.train_builders import World

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

ALL = {"target_modules": "all-linear"}
GLM = {"head_dim": 8}
PHI_MOE = {"num_local_experts": 2}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
UNTIED = {"tie_word_embeddings": False}

STREAMED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "fused gate and up projections": ("glm", GLM, ALL),
    "fused attention and MLP projections": ("phi3", {}, ALL),
    "biases, which are not tuned": ("qwen2", {}, ALL),
    "normed queries and keys": ("qwen3", GLM, ALL),
    "a sliding window": ("mistral", {}, ALL),
    "experts, of which only the attention is tuned": ("mixtral", {"num_local_experts": 2}, ALL),
    "weights stored transposed, without the outermost module": (
        "gpt2",
        GPT2,
        {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True},
    ),
    "transposed weights, by DoRA": (
        "gpt2",
        GPT2,
        {"target_modules": ["c_attn"], "fan_in_fan_out": True, "use_dora": True},
    ),
    "fused weights, by DoRA": ("glm", GLM, ALL | {"use_dora": True}),
    "a rank above the width": ("llama", {}, ALL | {"r": 80}),
    "a rank of one, rank-stabilised": ("llama", {}, ALL | {"r": 1, "use_rslora": True}),
    "ranks and alphas by layer": (
        "llama",
        {},
        ALL | {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.mlp.up_proj": 32}},
    ),
    "a head of its own, trained whole": ("llama", UNTIED, ALL | {"modules_to_save": ["lm_head"]}),
    "norms that were trained whole": ("llama", {}, ALL | {"modules_to_save": ["input_layernorm"]}),
    "biases that were trained": ("qwen2", {}, ALL | {"bias": "all"}),
    "a tuned head of its own": ("llama", UNTIED, {"target_modules": ["q_proj", "lm_head"]}),
}


def merge(made: World, wanted: Any = MERGED) -> tuple[ExportResult, dict[str, Any]]:
    result = made.export(wanted)
    return result, load(directory(made, result))


@pytest.mark.parametrize("sentence", STREAMED)
def test_every_tensor_is_that_of_llamafactory_for_a_model_with(sentence: str, tmp_path: Path) -> None:
    family, shape, lora = STREAMED[sentence]
    made = untrained(tmp_path, family, shape, **lora)
    result, ours = merge(made)
    assert result.warnings == ()
    assert_equal(ours, peer_export(tmp_path / "base", made.place / "adapter", tmp_path / "peer"))
    assert any(not ours[name].equal(tensor) for name, tensor in load(tmp_path / "base").items())


WHOLE: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "whose files name weights otherwise than its modules": (
        "phimoe",
        PHI_MOE,
        {"target_modules": ["q_proj", "router"]},
        "the base model stores no model.layers.0.mlp.router.weight",
    ),
    "whose embedding is tuned": (
        "llama",
        {},
        {"target_modules": ["q_proj", "embed_tokens"]},
        "the adapter has model.embed_tokens.lora_embedding_A",
    ),
}


@pytest.mark.parametrize("sentence", WHOLE)
def test_llamafactory_merges_what_can_not_be_streamed_and_it_is_said(
    sentence: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    family, shape, lora, why = WHOLE[sentence]
    made = untrained(tmp_path, family, shape, **lora)
    with caplog.at_level(logging.WARNING):
        result, ours = merge(made, IN_SHARDS)
    told = f"export.merged: {why}: LLaMA-Factory merges it, with the whole model in memory"
    assert result.warnings == (told,)
    assert told in caplog.messages
    assert_equal(ours, peer_export(tmp_path / "base", made.place / "adapter", tmp_path / "peer"))
    assert made.export(IN_SHARDS) == result.model_copy(update={"cache_hit": True})


def test_the_adapter_in_peft_and_the_merged_model_in_transformers_answer_alike(tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    made = untrained(tmp_path, "glm", GLM, **ALL)
    merged = AutoModelForCausalLM.from_pretrained(directory(made, made.export(MERGED)), dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    tokens = torch.arange(20).unsqueeze(0)
    with torch.no_grad():
        untuned, wanted = base(tokens).logits, merged(tokens).logits
        tuned = PeftModel.from_pretrained(base, made.place / "adapter")(tokens).logits
    assert float((tuned - wanted).abs().mean()) < float((untuned - wanted).abs().mean()) / 20


@pytest.mark.parametrize(
    "lora",
    [
        pytest.param({"target_modules": ["lm_head"]}, id="by an update"),
        pytest.param({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, id="whole"),
    ],
)
def test_a_tuned_head_that_is_the_embedding_too_is_refused(tmp_path: Path, lora: dict[str, Any]) -> None:
    """Merged, it would change the embedding, which was not trained."""
    made = untrained(tmp_path, "llama", {"tie_word_embeddings": True}, **lora)
    with pytest.raises(StageError) as refused:
        made.export(MERGED)
    assert refused.value.reason is Reason.MODEL_UNSUPPORTED
    assert refused.value.message == (
        "export.merged: the adapter tunes lm_head, whose weight another layer shares: it can't be merged"
    )
