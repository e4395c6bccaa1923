"""What the training benchmark trains: a model with the shape of GLM-4-9B and random weights, on real
conversations, tokenised by a vocabulary made of them.
"""

import json
from pathlib import Path
from typing import Any, Final

from bench.results import ROOT
from stages.train_builders import Row, save_tokenizer

CONVERSATIONS: Final = ROOT / "samples" / "data" / "emollm" / "aiwei.json"
VOCABULARY: Final = 2000
"""Of the tokenizer: conversations then have about as many tokens as GLM-4's own gives them."""
NINE_BILLION: Final[dict[str, Any]] = {
    "vocab_size": 151_552,
    "hidden_size": 4096,
    "intermediate_size": 13_696,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "attention_bias": True,
    "tie_word_embeddings": False,
    "max_position_embeddings": 131_072,
}
TINY: Final[dict[str, Any]] = {
    **NINE_BILLION,
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "head_dim": 16,
}


def make_model(directory: Path, shape: dict[str, Any], device: str) -> int:
    """Saves a native `glm` model with random weights in bf16. Returns the bytes of its weights."""
    import torch
    from transformers import GlmConfig, GlmForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = GlmForCausalLM(GlmConfig(**shape, pad_token_id=2, eos_token_id=2))
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(directory, max_shard_size="4GB")
    save_tokenizer(directory)
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def tokenise(limit: int) -> list[Row]:
    """The first conversations; answers are learned, prompts are not."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    conversations = [row["conversation"] for row in json.loads(CONVERSATIONS.read_text())][:limit]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    texts = (text for turns in conversations for turn in turns for text in turn.values())
    tokenizer.train_from_iterator(texts, trainer)
    return [_row(turns, tokenizer) for turns in conversations]


def _row(turns: list[dict[str, str]], tokenizer: Any) -> Row:
    tokens: list[int] = []
    labels: list[int] = []
    for turn in turns:
        prompt = tokenizer.encode(turn.get("system", "") + turn["input"]).ids
        answer = tokenizer.encode(turn["output"]).ids
        tokens += prompt + answer
        labels += [-100] * len(prompt) + answer
    return {"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": labels}
