"""Conversations of one shape are spelled alike: the template is asked once, and then only texts are put in.

That holds for a template that does nothing with a text but put it between others, which is known of the
classes of LLaMA-Factory that are named here.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from llamafactory.data.formatter import EmptyFormatter, StringFormatter
from llamafactory.data.mm_plugin import BasePlugin
from llamafactory.data.template import Template

from lorafinetune_stages.prepare.conversation import Conversation, Role, Turn
from lorafinetune_stages.prepare.spelling import Piece

Spelled = Sequence[tuple[Sequence[Piece], Sequence[Piece]]]
"""Prompt and answer of every turn."""
Shape = tuple[bool, tuple[Role, ...]]
"""Whether there is a system prompt, and who speaks."""
Blank = tuple[str, int, str] | Piece
"""A piece with the number of a text in it, between two others; or a piece that is always the same."""

PLAIN_ROLES: Final = {"user", "assistant", "observation"}
PLACEHOLDER: Final = "{{"
"""What a formatter would look for in a text that it has put in, too."""
MARK: Final = re.compile("\ufffe(\\d+)\ufffe")


class ShapeSpeller:
    """spell: asks the template. MAX_SHAPES bounds the memory."""

    MAX_SHAPES: Final = 1024

    def __init__(self, spell: Callable[[Conversation], Spelled]) -> None:
        self._spell = spell
        self._shapes: dict[Shape, list[tuple[list[Blank], list[Blank]]]] = {}

    def __call__(self, conversation: Conversation) -> Spelled:
        texts = [conversation.system, *[turn.content for turn in conversation.turns]]
        roles = tuple([turn.role for turn in conversation.turns])
        if conversation.tools or PLACEHOLDER in "\n".join(texts) or not PLAIN_ROLES.issuperset(roles):
            return self._spell(conversation)
        shape = (bool(conversation.system), roles)
        blanks = self._shapes.get(shape) or self._learn(shape)
        return [(_fill(prompt, texts), _fill(answer, texts)) for prompt, answer in blanks]

    def _learn(self, shape: Shape) -> list[tuple[list[Blank], list[Blank]]]:
        has_system, roles = shape
        turns = tuple(Turn(role, f"\ufffe{at}\ufffe") for at, role in enumerate(roles, 1))
        marked = Conversation(turns)
        spelled = self._spell(replace(marked, system="\ufffe0\ufffe") if has_system else marked)
        blanks = [([*map(_blank, prompt)], [*map(_blank, answer)]) for prompt, answer in spelled]
        if len(self._shapes) < self.MAX_SHAPES:
            self._shapes[shape] = blanks
        return blanks


def is_plain(template: Any) -> bool:
    """Whether a template does nothing with a text but put it between others."""
    formatters = (
        template.format_prefix,
        template.format_system,
        template.format_user,
        template.format_assistant,
        template.format_observation,
    )
    return (
        type(template) is Template
        and type(template.mm_plugin) is BasePlugin
        and all(type(formatter) in (StringFormatter, EmptyFormatter) for formatter in formatters)
    )


def _blank(piece: Piece) -> Blank:
    if isinstance(piece, int):
        return piece
    match MARK.split(piece):
        case [text]:
            return text
        case [before, number, after]:
            return before, int(number), after
        case _:
            raise TypeError("a template puts two texts into one piece")


def _fill(blanks: Sequence[Blank], texts: Sequence[str]) -> list[Piece]:
    return [
        blank[0] + texts[blank[1]] + blank[2] if type(blank) is tuple else blank  # type: ignore[misc]  # told apart
        for blank in blanks
    ]
