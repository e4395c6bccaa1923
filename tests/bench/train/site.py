"""What the trainings of the benchmark share: a model with random weights, and real conversations."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lorafinetune.api.status import ModelStatus
from lorafinetune.contract import keys
from lorafinetune.contract.arguments import TrainArguments, place
from lorafinetune_stages.prepare.output import Prepared
from lorafinetune_stages.store.manifest import commit_manifest, read_manifest
from lorafinetune_stages.train.inputs import TrainInputs, compute_in_fp32
from stages.train_builders import (
    COMMIT,
    MODEL,
    PREPARED,
    Row,
    put_dataset,
    save_tokenizer,
    stand_in,
    train_arguments,
)

NINE_BILLION: Final[Mapping[str, Any]] = {
    "vocab_size": 151_552,
    "hidden_size": 4096,
    "intermediate_size": 13_696,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "attention_bias": True,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
"""The shape of GLM-4-9B."""
TINY: Final[Mapping[str, Any]] = {
    **NINE_BILLION,
    "vocab_size": 3000,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "head_dim": 16,
}
WORDS: Final = 2000
"""Of the tokenizer, so that a conversation has about as many tokens as the real model makes of it."""
MARKS: Final = (1, 2, 3)
"""Tokens before every turn, as chat templates have them. Not the padding, whose embedding is zero: a
conversation that began with it would keep a zero in every layer, and normalising has no slope there."""
SIZE: Final = "size.json"
CONFIG: Final = "config.json"


@dataclass(frozen=True)
class Site:
    """A directory with everything. gpus: of a rank; 0 for the CPU."""

    root: Path
    gpus: int

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def parameters(self) -> dict[str, int]:
        """Of the whole model, and of its input embedding."""
        sizes: dict[str, int] = json.loads((self.root / SIZE).read_text())
        return sizes

    def arguments(
        self, name: str, fields: Mapping[str, Any], extra: Mapping[str, Any], ranks: int
    ) -> TrainArguments:
        """name: of the training. fields: of `training`. extra: arguments of LLaMA-Factory."""
        base = ModelStatus(
            source=MODEL,
            revision=COMMIT,
            digest=keys.digest("benchmark"),
            bytes=sum(path.stat().st_size for path in self.model.glob("*.safetensors")),
        )
        made = train_arguments(stand_in(self.root), base, fields)
        changes = {"key": keys.digest(name), "gpus": self.gpus * ranks, "config": {**made.config, **extra}}
        return made.model_copy(update=changes)

    def inputs(self, arguments: TrainArguments, scratch: Path) -> TrainInputs:
        """As the stage has them after the download."""
        store = stand_in(self.root)
        prepared = read_manifest(store, place("prepared", PREPARED))
        model = read_manifest(store, place("models", keys.digest("benchmark")))
        assert prepared is not None
        assert model is not None
        lay(self.model, scratch / "model", arguments.training.precision)
        (scratch / "dataset").symlink_to(self.root / "rows" / "dataset")
        return TrainInputs(model, prepared, Prepared.decode(prepared.result or {}), scratch)


def lay(model: Path, where: Path, precision: str) -> None:
    """The files of a model by links, but for its configuration."""
    where.mkdir()
    for path in model.iterdir():
        (where / path.name).symlink_to(path)
    own = where / CONFIG
    own.unlink()
    shutil.copy(model / CONFIG, own)
    if precision == "fp32":
        compute_in_fp32(own)


def make(root: Path, shape: Mapping[str, Any], conversations: Path, gpus: int) -> Site:
    """Fills `root`. conversations: a file of EmoLLM's multi-turn form."""
    site = Site(root, gpus)
    make_model(site, shape)
    put(site, list(rows(json.loads(conversations.read_text()))))
    return site


def put(site: Site, conversations: list[Row]) -> None:
    """Leaves a model and conversations as download and prepare do."""
    store = stand_in(site.root)
    commit_manifest(
        store, place("models", keys.digest("benchmark")), "models", keys.digest("benchmark"), (), {}, None
    )
    put_dataset(store, site.root / "rows", conversations)


def make_model(site: Site, shape: Mapping[str, Any]) -> None:
    """With random weights."""
    import torch
    from transformers import GlmConfig, GlmForCausalLM

    torch.manual_seed(0)
    with torch.device("cuda" if site.gpus else "cpu"):
        model = GlmForCausalLM._from_config(GlmConfig(**shape), dtype=torch.bfloat16)
    model.save_pretrained(site.model, max_shard_size="2GB")
    save_tokenizer(site.model)
    note_size(site, model)


def note_size(site: Site, model: Any) -> None:
    """model: with its weights."""
    embedding = model.get_input_embeddings().weight.numel()
    sizes = {"all": sum(each.numel() for each in model.parameters()), "embedding": embedding}
    (site.root / SIZE).write_text(json.dumps(sizes))


def rows(conversations: list[dict[str, Any]]) -> Iterator[Row]:
    """Their tokens: system prompts and questions are not learned, answers are."""
    encode = _tokenizer(text for each in conversations for text in _texts(each))
    for each in conversations:
        tokens: list[int] = []
        labels: list[int] = []
        for number, text in enumerate(_texts(each)):
            added = [*MARKS, *encode(text)]
            tokens += added
            labels += added if number and number % 2 == 0 else [-100] * len(added)
        yield {"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": labels}


def _texts(conversation: dict[str, Any]) -> Iterator[str]:
    """The system prompt, then a question and an answer at a time."""
    turns = conversation["conversation"]
    yield turns[0].get("system", "")
    for turn in turns:
        yield turn["input"]
        yield turn["output"]


def _tokenizer(texts: Iterator[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=WORDS, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    first = MARKS[-1] + 1
    return lambda text: [first + token for token in tokenizer.encode(text).ids]
