"""Which chat template LLaMA-Factory shall use, decided without importing it.

The names are read out of its source. A template is inferred from what the model's own chat template
says, never from the model's name; whether it really fits is proven later by rendering both.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.chat_templates import UNKNOWN_HINT, unknown_template
from lorafinetune.contract.outcome import StageError

TURNS: Final = ("format_user", "format_assistant")
MEDIA_PLACEHOLDERS: Final = ("<image>", "<video>", "<audio>")
"""What templates for images and sound replace in a text."""

MARK: Final = re.compile(r"<\|[^\s<>|]+\|>|\[/?INST\]")
"""What nobody writes but to say who speaks. Not every tokenizer has a token of its own for it."""


@dataclass(frozen=True)
class TemplateFacts:
    """What a template's registration says. markers: texts with a meaning that no row may contain. turns: all
    that it writes around a question and an answer."""

    markers: tuple[str, ...]
    turns: str


@dataclass(frozen=True)
class Clue:
    """A template, and what the chat template of a model that it fits contains and does not contain.

    model_types: values of `model_type` in config.json; empty for any.
    """

    template: str
    contains: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    model_types: tuple[str, ...] = ()


GLM: Final = ("[gMASK]<sop>",)
QWEN3_TYPES: Final = ("qwen3", "qwen3_moe")

CLUES: Final = (
    Clue("smollm2", ("<|im_start|>", "named SmolLM")),
    Clue("glm4", GLM, ("<think>",), ("glm", "glm4")),
    Clue("glmz1", (*GLM, "<think>"), (), ("glm4",)),
    Clue("glm4_moe", (*GLM, "<think>"), (), ("glm4_moe",)),
    Clue("qwen3", ("<|im_start|>", "<think>"), (), QWEN3_TYPES),
    Clue("qwen3_nothink", ("<|im_start|>",), ("<think>",), QWEN3_TYPES),
    Clue("qwen", ("<|im_start|>",), ("<think>",), ("qwen2", "qwen2_moe")),
    Clue("deepseekr1", ("<｜User｜>", "<think>")),
    Clue("deepseek3", ("<｜User｜>",), ("<think>",)),
    Clue("llama3", ("<|start_header_id|>",), (), ("llama",)),
    Clue("phi4", ("<|im_start|>", "<|im_sep|>")),
    Clue("phi", ("<|user|>", "<|end|>"), (), ("phi3",)),
    Clue("mistral", ("[INST]",), ("[SYSTEM_PROMPT]",), ("mistral", "mixtral")),
    Clue("gemma2", ("<start_of_turn>",), (), ("gemma2",)),
    Clue("gemma", ("<start_of_turn>",), (), ("gemma",)),
)
"""The first clue that fits decides."""


def resolve_template(declared: str | None, config: Mapping[str, Any], chat_template: str) -> str:
    """LLaMA-Factory's name of the template. chat_template: the model's own; empty where it has none.

    Raises StageError(TemplateMismatch).
    """
    if declared is None:
        return infer_template(config, chat_template)
    if problem := unknown_template(declared):
        raise StageError(Reason.TEMPLATE_MISMATCH, f"model.template: {problem}", UNKNOWN_HINT)
    return declared


def infer_template(config: Mapping[str, Any], chat_template: str) -> str:
    """The template that the model's files speak for. Raises StageError(TemplateMismatch)."""
    model_type = config.get("model_type")
    for clue in CLUES:
        if _fits(clue, model_type, chat_template):
            return clue.template
    what = "one that is not recognised" if chat_template else "none"
    raise StageError(
        Reason.TEMPLATE_MISMATCH,
        f"model.template: can't be inferred: the model's own chat template is {what}, "
        f"and its model_type is {str(model_type)[:64]!r}",
    )


@cache
def known_templates() -> Mapping[str, TemplateFacts]:
    """LLaMA-Factory's templates by name."""
    source = Path(str(distribution("llamafactory").locate_file("llamafactory/data/template.py")))
    statements = ast.parse(source.read_text()).body
    calls = (node.value for node in statements if isinstance(node, ast.Expr))
    registrations = (call for call in calls if isinstance(call, ast.Call) and _registers(call))
    return dict(_facts(call) for call in registrations)


def _registers(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "register_template"


def _facts(call: ast.Call) -> tuple[str, TemplateFacts]:
    arguments = {keyword.arg: keyword.value for keyword in call.keywords}
    stop_words = ast.literal_eval(arguments["stop_words"]) if "stop_words" in arguments else []
    media = MEDIA_PLACEHOLDERS if "mm_plugin" in arguments else ()
    turns = "".join(text for name in TURNS if name in arguments for text in _texts(arguments[name]))
    markers = tuple(dict.fromkeys((*stop_words, *media, *MARK.findall(turns))))
    return ast.literal_eval(arguments["name"]), TemplateFacts(markers, turns)


def _texts(formatter: ast.expr) -> Iterator[str]:
    for node in ast.walk(formatter):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _fits(clue: Clue, model_type: Any, chat_template: str) -> bool:
    return (
        (not clue.model_types or model_type in clue.model_types)
        and all(text in chat_template for text in clue.contains)
        and not any(text in chat_template for text in clue.lacks)
    )
