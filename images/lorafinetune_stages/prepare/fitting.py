"""Whether a template fits the model: LLaMA-Factory's rendering is compared with the model's own."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from llamafactory.data.template import TEMPLATES, get_template_and_fix_tokenizer

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.bounded import bounded
from lorafinetune_stages.prepare.conversation import Conversation, Turn
from lorafinetune_stages.prepare.differing import Difference, mismatch
from lorafinetune_stages.prepare.preflight import Toolkit
from lorafinetune_stages.prepare.tokenising import Tokeniser

SYSTEM: Final = "Answer in one word."
ONE_TURN: Final = (Turn("user", "What is the capital of France?"), Turn("assistant", "Paris."))
TWO_TURNS: Final = (*ONE_TURN, Turn("user", "And of Japan?"), Turn("assistant", "Tokyo."))
SAMPLES: Final = (
    Conversation(ONE_TURN, SYSTEM),
    Conversation(TWO_TURNS, SYSTEM),
    Conversation(ONE_TURN),
    Conversation(TWO_TURNS),
)
DATES: Final = re.compile(r"Cutting Knowledge Date: [^\n]*\nToday Date: [^\n]*\n\n")
"""What Llama 3 since 3.1 says before every system prompt; LLaMA-Factory says it to rows with tools alone."""
TOOLS: Final = '[{"name": "weather", "parameters": {"properties": {}}}]'
EMPTY_THOUGHT: Final = re.compile(r"<think>\s*</think>\s*")
ENDLESS: Final = (
    "model.source: its chat template does not come to an end with two messages, or takes a gigabyte for them"
)


@dataclass(frozen=True)
class TemplateFit:
    """differences: of the renderings, for the report. default_system: what is to be said of rows without a
    system prompt; empty where the defaults agree. dated: whether the day of the preparation stands in rows
    with tools."""

    warnings: Sequence[str] = ()
    differences: dict[str, str] = field(default_factory=dict)
    default_system: str = ""
    dated: bool = False


@dataclass(frozen=True)
class Rendered:
    """One conversation as both render it. own: None where the model's template refuses it."""

    own: str | None
    ours: str

    @property
    def difference(self) -> Difference | None:
        if self.own is None or self.own == self.ours:
            return None
        return Difference(model=self.own, template=self.ours)


def fit_template(name: str, inferred: bool, toolkit: Toolkit) -> tuple[Tokeniser, TemplateFit]:
    """A tokeniser ready to use, and how well the template fits.

    Raises StageError(TemplateMismatch): always for missing tokens; for renderings that differ only
    where the template was inferred, since a person may know better."""
    tokeniser, fit = _compare(name, inferred, toolkit)
    (described,) = tokeniser.template.format_tools.apply(content=TOOLS)
    return tokeniser, replace(fit, dated=bool(DATES.search(described)))


def _compare(name: str, inferred: bool, toolkit: Toolkit) -> tuple[Tokeniser, TemplateFit]:
    _check_tokens(name, toolkit.tokenizer)
    own = bounded(lambda: [_own_text(sample, toolkit.tokenizer) for sample in SAMPLES])
    if own is None:  # asked before the tokenizer is changed
        raise StageError(Reason.MODEL_UNSUPPORTED, ENDLESS)
    tokeniser = _tokeniser(name, toolkit)
    if not toolkit.tokenizer.chat_template or not any(own):
        return tokeniser, TemplateFit(
            ["the model has no chat template of its own to compare the template with"]
        )
    rendered = [_render(sample, text, name, tokeniser) for sample, text in zip(SAMPLES, own, strict=True)]
    with_system, plain = rendered[:2], rendered[2:]
    compared = with_system if own[0] is not None else plain  # some know no system prompt
    if different := next((found for sample in compared if (found := sample.difference)), None):
        if inferred:
            raise mismatch(name, different)
        warning = f"template {name} differs from the model's own: {different.around}"
        return tokeniser, TemplateFit([warning], different.encode())
    dated = any(DATES.search(text) for text in own if text)
    warnings = (
        [f"the model's own template begins system prompts with dates, {name} does not"] if dated else []
    )
    return tokeniser, TemplateFit(warnings, default_system=_default_system(name, plain[0]))


def default_prompt(name: str) -> str:
    """What a template says to the assistant in conversations without a system prompt."""
    return str(TEMPLATES[name].default_system or "")


def _default_system(name: str, plain: Rendered) -> str:
    if not plain.difference:
        return ""
    return f"have no system prompt: {name} gives them another than the model's own template: " + (
        plain.difference.around
    )


def _check_tokens(name: str, tokenizer: Any) -> None:
    """Every stop word that the template writes must be one token of the tokenizer."""
    template = TEMPLATES[name]
    formatters = (
        template.format_prefix,
        template.format_system,
        template.format_user,
        template.format_assistant,
    )
    slots = [slot for formatter in formatters for slot in formatter.slots]
    written = "".join(slot for slot in slots if isinstance(slot, str))
    needed = [word for word in template.stop_words if word in written]
    needed += [slot["token"] for slot in slots if isinstance(slot, dict)]
    vocabulary = tokenizer.get_vocab()
    if missing := [token for token in needed if token not in vocabulary]:
        raise StageError(
            Reason.TEMPLATE_MISMATCH,
            f"model.template: {name} needs {', '.join(map(repr, missing))}, "
            "which is no token of the model's tokenizer",
        )


def _tokeniser(name: str, toolkit: Toolkit) -> Tokeniser:
    try:
        template = get_template_and_fix_tokenizer(toolkit.tokenizer, toolkit.data_args)
    except ValueError as problem:
        raise StageError(Reason.CONFIG_INVALID, f"model.template: {name}: {problem}") from problem
    return Tokeniser(copy.copy(template), toolkit.tokenizer, toolkit.processor, toolkit.data_args)


def _own_text(sample: Conversation, tokenizer: Any) -> str | None:
    """As the model's own chat template renders it; None where it refuses to, or there is none."""
    messages = [{"role": turn.role, "content": turn.content} for turn in sample.turns]
    if sample.system:
        messages.insert(0, {"role": "system", "content": sample.system})
    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False)
    except Exception:  # a template is a program of the model's author, and may raise anything
        return None
    return text


def _render(sample: Conversation, own: str | None, name: str, tokeniser: Tokeniser) -> Rendered:
    tokenizer = tokeniser.tokenizer
    try:
        ids = tokeniser.whole(sample)
    except (ValueError, AttributeError) as problem:
        raise StageError(
            Reason.TEMPLATE_MISMATCH, f"model.template: {name} can't be used with the model: {problem}"
        ) from problem
    expected = None if own is None else _comparable(_ids(tokenizer, DATES.sub("", own)), tokenizer)
    return Rendered(expected, _comparable(ids, tokenizer))


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _comparable(ids: list[int], tokenizer: Any) -> str:
    """The text of the tokens without empty thoughts and without the end of the last turn."""
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    text = EMPTY_THOUGHT.sub("", text).rstrip()
    ends = sorted(filter(None, {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}))
    while ending := next((end for end in ends if text.endswith(end)), ""):
        text = text.removesuffix(ending).rstrip()
    return text
