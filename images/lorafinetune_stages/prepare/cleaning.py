"""Cleaning of the answers: step for step as the EmoLLM recipe does it by hand, and by patterns."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import re2

from lorafinetune.api.datasets import Clean, Replace
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.conversation import Conversation

FIRST_LINE: Final = re.compile(r"^[^\n]+\n")
MAX_SECONDS: Final = 5.0
"""For all matches of one pattern in one answer. Each match takes linear time; many matches can add up."""
PATTERN_BYTES: Final = 8 * 2**20
"""Memory of one compiled pattern."""

Clock = Callable[[], float]


@dataclass(frozen=True)
class Pattern:
    """A pattern ready for use. field: its path in the resource, for messages."""

    field: str
    compiled: Any
    replacement: str


class Cleaner:
    """The rules of one dataset. field: their path in the resource.

    Raises StageError(ConfigInvalid) for a pattern that is none.
    """

    def __init__(self, rules: Clean, field: str, clock: Clock = time.monotonic) -> None:
        self._rules = rules
        self._clock = clock
        self._patterns = [
            _pattern(item, f"{field}.replace[{index}]") for index, item in enumerate(rules.replace or ())
        ]

    @property
    def changes(self) -> bool:
        """Whether there is any rule."""
        return bool(self._rules.remove or self._rules.drop_intro_line or self._patterns)

    def clean(self, conversation: Conversation) -> Conversation:
        """With its answers cleaned; prompts, system prompt and tool calls are kept. Raises StageError."""
        return conversation.with_answers(self._clean) if self.changes else conversation

    def _clean(self, answer: str) -> str:
        """Texts are removed first; what then has the intro text is stripped and loses its first line."""
        for text in self._rules.remove:
            answer = answer.replace(text, "")
        intro = self._rules.drop_intro_line
        if intro and intro in answer:
            answer = FIRST_LINE.sub("", answer.strip(), count=1).strip()
        for pattern in self._patterns:
            answer = self._replaced(pattern, answer)
        return answer

    def _replaced(self, pattern: Pattern, answer: str) -> str:
        end = self._clock() + MAX_SECONDS
        kept: list[str] = []
        at = 0
        for match in pattern.compiled.finditer(answer):
            kept += answer[at : match.start()], pattern.replacement
            at = match.end()
            if self._clock() > end:
                what = f"takes more than {MAX_SECONDS:g} s for an answer of {len(answer)} characters"
                raise _unusable(pattern.field, what)
        return "".join(kept) + answer[at:]


def _pattern(item: Replace, field: str) -> Pattern:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = PATTERN_BYTES
    try:
        return Pattern(field, re2.compile(item.pattern, options), item.replacement)
    except re2.error as problem:
        why = problem.args[0].decode(errors="replace") if problem.args else ""
        raise _unusable(field, f"is no regular expression of RE2: {why}") from problem


def _unusable(field: str, what: str) -> StageError:
    hint = "See https://github.com/google/re2/wiki/Syntax; simpler patterns are faster."
    return StageError(Reason.CONFIG_INVALID, f"{field}.pattern: {what}", hint)
