"""Asks the base model and the tuned one the same questions, and prints the answers side by side.

usage: python samples/side_by_side.py RESOURCE.yaml [--store DIRECTORY]

RESOURCE.yaml is what a local run leaves behind: the resource with its status.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from lorafinetune.api.codec import decode
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.contract.arguments import place
from lorafinetune.contract.keys import source_key

TAUGHT = ("你是谁？", "Who are you?", "What is your name", "hi")
NOT_TAUGHT = ("What is the capital of France?", "我最近总是睡不好，怎么办？")
MAX_NEW_TOKENS = 100


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("resource", type=Path)
    parser.add_argument("--store", type=Path, default=Path("lorafinetune-store"))
    options = parser.parse_args(argv)
    base, tuned = model_directories(decode(yaml.safe_load(options.resource.read_text())), options.store)
    questions = (*TAUGHT, *NOT_TAUGHT)
    answers = []
    for name, directory in (("base", base), ("tuned", tuned)):
        sys.stderr.write(f"asking the {name} model {len(questions)} questions …\n")
        answers.append(answer(*load(directory), questions))
    show(questions, *answers)
    return 0


def model_directories(resource: LoRAFineTune, store: Path) -> tuple[Path, Path]:
    """Where base and merged model lie in the directory that stands in for S3."""
    status = resource.status
    if not (status and status.model and status.artifacts and status.artifacts.merged):
        sys.exit("the run is not complete, or has no merged model")
    models = place("models", source_key(status.model.source, status.model.revision))
    uris = (f"{resource.spec.storage.uri}/{models}", status.artifacts.merged.uri)
    base, tuned = (store / uri.removeprefix("s3://") for uri in uris)
    return base, tuned


def load(directory: Path) -> tuple[Any, Any]:
    """The model in a directory, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(directory, local_files_only=True, dtype=torch.float32)
    return model, tokenizer


def answer(model: Any, tokenizer: Any, questions: Sequence[str]) -> list[str]:
    """Greedy answers to questions that are asked in one batch."""
    inputs = tokenizer.apply_chat_template(
        [[{"role": "user", "content": question}] for question in questions],
        add_generation_prompt=True,
        padding=True,
        return_tensors="pt",
        return_dict=True,
    )
    output = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
    answers = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in answers]


def show(questions: Sequence[str], base: Sequence[str], tuned: Sequence[str]) -> None:
    table = Table(title="the same questions, greedy answers", show_lines=True)
    for heading in ("question", "base", "tuned"):
        table.add_column(heading, overflow="fold")
    for question, *answers in zip(questions, base, tuned, strict=True):
        note = "" if question in TAUGHT else "\n(not in the data)"
        table.add_row(question + note, *answers)
    Console().print(table, markup=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
