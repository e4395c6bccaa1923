"""Asks a base model and the same model with an adapter, side by side: `python -m lorafinetune_stages.talk`.

No stage: a person at a terminal runs it, where the trainer is installed. One copy of the weights serves both,
as the adapter can be switched off. The answers are greedy, so the same question has the same answers.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from lorafinetune.contract.outcome import ExitCode

INTERRUPTED: Final = 130
UNLOADED: Final = (
    "ArtifactCorrupt: the models can't be loaded: {}. Make the run again with `lorafinetune run`, or give "
    "another store.\n"
)
SIDES: Final = {"base": False, "tuned": True}
"""Names of the two, and whether the adapter is on."""

Messages = list[dict[str, str]]


class Pair:
    """The two models. tokens: most that an answer may have."""

    def __init__(self, base: Path, adapter: Path, tokens: int) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
        self._tokens = tokens
        self._tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            base, local_files_only=True, use_safetensors=True, dtype=dtype, trust_remote_code=False
        )
        self._model: Any = PeftModel.from_pretrained(model, adapter).to(device).eval()

    def answer(self, messages: Messages, tuned: bool) -> str:
        """What one of the two says next."""
        given = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self._model.device)
        with nullcontext() if tuned else self._model.disable_adapter():
            said = self._model.generate(**given, max_new_tokens=self._tokens, do_sample=False)
        own = said[0, given["input_ids"].shape[1] :]
        return printable(str(self._tokenizer.decode(own, skip_special_tokens=True)).strip())


def main(argv: list[str]) -> int:
    options = _options(argv)
    try:
        pair = Pair(options.base, options.adapter, options.tokens)
    except Exception as problem:  # libraries refuse a damaged file in many ways
        sys.stderr.write(UNLOADED.format(next(iter(printable(str(problem)).splitlines()), repr(problem))))
        return ExitCode.BAD_INPUT
    start = [{"role": "system", "content": options.system}] if options.system else []
    talks: dict[str, Messages] = {side: list(start) for side in SIDES}
    for question in options.questions or _typed():
        if options.questions:
            talks = {side: list(start) for side in SIDES}
            _print("you", question)
        for side, tuned in SIDES.items():
            talks[side].append({"role": "user", "content": question})
            talks[side].append({"role": "assistant", "content": pair.answer(talks[side], tuned)})
            _print(side, talks[side][-1]["content"])
    return 0


def program(argv: list[str]) -> int:
    """As a person starts it, who may interrupt it or read no further."""
    try:
        return main(argv)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE


def printable(text: str) -> str:
    """A model may say what a terminal would obey."""
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)


def _typed() -> Iterator[str]:
    """Questions that a person types, or that another program writes, one a line."""
    while True:
        if sys.stdin.isatty():
            sys.stdout.write("you    ")
            sys.stdout.flush()
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _print(who: str, text: str) -> None:
    sys.stdout.write(f"{who:<7}{text.replace(chr(10), chr(10) + ' ' * 7)}\n")
    sys.stdout.flush()


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ask a base model and its tuned form the same questions.")
    parser.add_argument("base", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--system", default="")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("questions", nargs="*")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(program(sys.argv[1:]))
