"""Whether a template fits the model: LLaMA-Factory's rendering is compared with the model's own."""

import copy
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from llamafactory.data.template import TEMPLATES, get_template_and_fix_tokenizer

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.chat_template import own_text
from lorafinetune_stages.prepare.conversation import Conversation, Turn
from lorafinetune_stages.prepare.examples import Example
from lorafinetune_stages.prepare.preflight import Toolkit
from lorafinetune_stages.prepare.sandbox import bounded
from lorafinetune_stages.prepare.template_difference import Difference, mismatch
from lorafinetune_stages.prepare.tokeniser import Tokeniser

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
    "model.source: its chat template does not come to an end with a few messages, or takes a gigabyte "
    "for them"
)
TOLD_PLACES: Final = 2


@dataclass(frozen=True)
class TemplateFit:
    """differs: whether it fits not, and is good only where it was declared. differences: of the renderings,
    for the report. default_system: what is to be said of rows without a system prompt; empty where the
    defaults agree. dated: whether the day of the preparation stands in rows with tools."""

    warnings: Sequence[str] = ()
    differs: bool = False
    differences: dict[str, str] = field(default_factory=dict)
    default_system: str = ""
    dated: bool = False


@dataclass(frozen=True)
class Rendered:
    """One conversation as both render it. own: None where the model's template refuses it. example: the row
    that it is; None where it is one of ours."""

    own: str | None
    ours: str
    example: Example | None = None

    @property
    def has_tools(self) -> bool:
        return self.example is not None and self.example.has_tools

    @property
    def difference(self) -> Difference | None:
        if self.own is None or self.own == self.ours:
            return None
        return Difference(model=self.own, template=self.ours, row=self.example.place if self.example else "")


def fit_template(
    name: str, inferred: bool, toolkit: Toolkit, examples: Sequence[Example]
) -> tuple[Tokeniser, TemplateFit]:
    """A tokeniser ready to use, and how well the template fits. examples: rows of the data.

    Raises StageError(TemplateMismatch): always for missing tokens; for renderings that differ only
    where the template was inferred, since a person may know better."""
    _check_tokens(name, toolkit.tokenizer)
    own = bounded(lambda: _own_texts(examples, toolkit.tokenizer))
    if own is None:  # asked before the tokenizer is changed
        raise StageError(Reason.MODEL_UNSUPPORTED, ENDLESS)
    tokeniser = _tokeniser(name, toolkit)
    fit = _compare(name, own, examples, tokeniser)
    if fit.differs and inferred:
        raise mismatch(name, Difference.model_validate(fit.differences))
    (described,) = tokeniser.template.format_tools.apply(content=TOOLS)
    return tokeniser, replace(fit, dated=bool(DATES.search(described)))


def _own_texts(examples: Sequence[Example], tokenizer: Any) -> list[str | None]:
    """Of our own conversations, and then of the rows."""
    ours = [own_text(sample, tokenizer) for sample in SAMPLES]
    return [*ours, *(own_text(row, tokenizer) for row in _told(examples, ours))]


def _told(examples: Sequence[Example], own: Sequence[str | None]) -> list[Conversation]:
    """The rows with a system prompt, which hides what the defaults are; some models know none."""
    system = SYSTEM if own[0] is not None else ""
    return [example.with_system(system) for example in examples]


def _compare(
    name: str, own: Sequence[str | None], examples: Sequence[Example], tokeniser: Tokeniser
) -> TemplateFit:
    if not any(own[: len(SAMPLES)]):
        return TemplateFit(["the model has no chat template of its own to compare the template with"])
    ours = [_render(sample, text, name, tokeniser) for sample, text in zip(SAMPLES, own, strict=False)]
    with_system, plain = ours[:2], ours[2:]
    rows = _rendered_rows(_told(examples, own), own[len(SAMPLES) :], examples, tokeniser)
    talks = [row for row in rows if not row.has_tools]
    fixed = with_system if own[0] is not None else plain  # some know no system prompt
    if different := _first_difference([*fixed, *talks]):
        warning = f"template {name} differs from the model's own{different.at}: {different.around}"
        return TemplateFit([warning], True, different.encode())
    told_tools, of_tools = _of_tools(name, [row for row in rows if row.has_tools])
    warnings = [*_of_dates(name, own), *told_tools, *_of_refused(rows)]
    return TemplateFit(warnings, differences=of_tools, default_system=_default_system(name, plain[0]))


def _rendered_rows(
    rows: Sequence[Conversation],
    own: Sequence[str | None],
    examples: Sequence[Example],
    tokeniser: Tokeniser,
) -> list[Rendered]:
    """The rows that LLaMA-Factory's template can write: what it can't is found to be bad later."""
    found = []
    for row, text, example in zip(rows, own, examples, strict=True):
        with suppress(Exception):  # each template has its own
            found.append(replace(_rendered(row, text, tokeniser), example=example))
    return found


def _first_difference(rendered: Iterable[Rendered]) -> Difference | None:
    return next((found for each in rendered if (found := each.difference)), None)


def _of_tools(name: str, rows: Sequence[Rendered]) -> tuple[list[str], dict[str, str]]:
    """A warning and the texts, where tools are written in another way: they are by most templates."""
    different = _first_difference(rows)
    if not different:
        return [], {}
    warning = f"template {name} writes tools otherwise than the model's own{different.at}: {different.around}"
    return [warning], {f"{key} with tools": text for key, text in different.encode().items()}


def _of_dates(name: str, own: Sequence[str | None]) -> Iterator[str]:
    if any(DATES.search(text) for text in own[: len(SAMPLES)] if text):
        yield f"the model's own template begins system prompts with dates, {name} does not"


def _of_refused(rows: Sequence[Rendered]) -> Iterator[str]:
    if refused := [row.example.place for row in rows if row.example and row.own is None]:
        yield f"the model's own template refuses rows like {', '.join(refused[:TOLD_PLACES])}"


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


def _render(sample: Conversation, own: str | None, name: str, tokeniser: Tokeniser) -> Rendered:
    try:
        return _rendered(sample, own, tokeniser)
    except (ValueError, AttributeError) as problem:
        raise StageError(
            Reason.TEMPLATE_MISMATCH, f"model.template: {name} can't be used with the model: {problem}"
        ) from problem


def _rendered(conversation: Conversation, own: str | None, tokeniser: Tokeniser) -> Rendered:
    tokenizer = tokeniser.tokenizer
    ours = _comparable(tokeniser.whole(conversation), tokenizer)
    return Rendered(None if own is None else _comparable(_ids(tokenizer, own), tokenizer), ours)


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _comparable(ids: list[int], tokenizer: Any) -> str:
    """The text of the tokens without dates, empty thoughts, and the end of the last turn."""
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    text = EMPTY_THOUGHT.sub("", DATES.sub("", text)).rstrip()
    ends = sorted(filter(None, {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}))
    while ending := next((end for end in ends if text.endswith(end)), ""):
        text = text.removesuffix(ending).rstrip()
    return text
