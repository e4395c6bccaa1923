"""Asks a base model and the same model with an adapter, side by side: `python -m lorafinetune_stages.talk`.

No stage: a person at a terminal runs it, where the trainer is installed. One copy of the weights serves both,
as the adapter can be switched off. The answers are greedy, so the same question has the same answers.
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from lorafinetune.api.safetext import safe
from lorafinetune.contract.outcome import ExitCode

INTERRUPTED: Final = 130
UNLOADED: Final = (
    "ArtifactCorrupt: the models can't be loaded: {}. Make the run again with `lorafinetune run`, or give "
    "another store.\n"
)
UNANSWERED: Final = (
    "NoAnswer: the models can't answer: {}. Ask something shorter, give fewer "
    "--tokens, or leave --system out.\n"
)
COMPLETING: Final = "The base model has no chat template: both go on with the plain text that you write.\n"
SIDES: Final = {"base": False, "tuned": True}
"""Names of the two, and whether the adapter is on."""

Messages = list[dict[str, str]]


class UnableError(Exception):
    """Why the models can't be loaded or asked, as a line for a person."""


class Pair:
    """The two models. tokens: most that an answer may have."""

    def __init__(self, base: Path, adapter: Path, tokens: int) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # of a kernel that it misses
        device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
        self._tokens = tokens
        self._tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            base, local_files_only=True, use_safetensors=True, dtype=dtype, trust_remote_code=False
        )
        self._model: Any = PeftModel.from_pretrained(model, adapter).to(device).eval()

    @property
    def chats(self) -> bool:
        """Whether the base has a chat template; without one, both go on with plain text."""
        return bool(self._tokenizer.chat_template)

    def answer(self, messages: Messages, tuned: bool) -> str:
        """What one of the two says next."""
        given = self._tokens_of(messages).to(self._model.device)
        with nullcontext() if tuned else self._model.disable_adapter():
            said = self._model.generate(**given, max_new_tokens=self._tokens, do_sample=False)
        own = said[0, given["input_ids"].shape[1] :]
        return safe(str(self._tokenizer.decode(own, skip_special_tokens=True)).strip())

    def _tokens_of(self, messages: Messages) -> Any:
        if self.chats:
            return self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        text = "\n".join(message["content"] for message in messages)
        return self._tokenizer(text, return_tensors="pt", return_token_type_ids=False)


def main(argv: list[str]) -> int:
    options = _options(argv)
    try:
        with _told(UNLOADED):
            pair = Pair(options.base, options.adapter, options.tokens)
        if not pair.chats:
            sys.stderr.write(COMPLETING)
        _talk(pair, options)
    except UnableError as problem:
        sys.stderr.write(str(problem))
        return ExitCode.BAD_INPUT
    return ExitCode.DONE


def _talk(pair: Pair, options: argparse.Namespace) -> None:
    """Raises UnableError where one of the two can't answer."""
    start = [{"role": "system", "content": options.system}] if options.system else []
    talks: dict[str, Messages] = {side: list(start) for side in SIDES}
    for question in options.questions or _typed():
        if options.questions:
            talks = {side: list(start) for side in SIDES}
            _print("you", question)
        for side, tuned in SIDES.items():
            talks[side].append({"role": "user", "content": question})
            with _told(UNANSWERED):
                answer = pair.answer(talks[side], tuned)
            talks[side].append({"role": "assistant", "content": answer})
            _print(side, answer)


@contextmanager
def _told(sentence: str) -> Iterator[None]:
    """Libraries fail in many ways: by a damaged file, a full GPU, a template that takes no system prompt."""
    try:
        yield
    except Exception as problem:
        lines = safe(str(problem)).splitlines()
        raise UnableError(sentence.format((lines or [repr(problem)])[0].rstrip("."))) from None


def program(argv: list[str]) -> int:
    """As a person starts it, who may interrupt it or read no further."""
    try:
        return main(argv)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE


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
