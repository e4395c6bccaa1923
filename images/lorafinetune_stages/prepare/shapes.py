"""Conversations of one shape are rendered alike: the template is asked once, and then only texts are put in.

That holds for a template that does nothing with a text but put it between others, which is known of the
classes of LLaMA-Factory that are named here.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import mod
from typing import Any, Final

import numpy as np
from llamafactory.data.formatter import EmptyFormatter, StringFormatter
from llamafactory.data.mm_plugin import BasePlugin
from llamafactory.data.template import Template

from lorafinetune_stages.prepare.conversation import ROLES, Conversation, Packed, Turn
from lorafinetune_stages.prepare.piece_index import Parts, PieceIndex, RenderedTurns
from lorafinetune_stages.prepare.rendering import Piece

PLAIN_ROLES: Final = {"u", "a", "o"}
PLACEHOLDER: Final = "{{"
"""What a formatter would look for in a text that it has put in, too."""
MARK: Final = re.compile("\ufffe(\\d+)\ufffe")
TEXT, SYSTEM = -1, -2
"""In place of a piece's number: the next text, and the system prompt."""


@dataclass(frozen=True)
class Shape:
    """around, formats: what is around the system prompt, and around every text, as long as it belongs to one
    piece."""

    around: str
    formats: Sequence[str]
    numbers: Any
    parts: Parts


class ShapeRenderer:
    """render: asks the template. added: finds the tokens at which the tokenizer splits any text, where they
    are known: what is beyond them is the same for every text.

    MAX_SHAPES bounds the memory.
    """

    MAX_SHAPES: Final = 1024

    def __init__(
        self, render: Callable[[Conversation], RenderedTurns], added: re.Pattern[str] | None
    ) -> None:
        self._render = render
        self._added = added
        self._shapes: dict[tuple[bool, str], Shape] = {}
        self._always: dict[Piece, int] = {}

    def __call__(self, rows: Sequence[Packed]) -> PieceIndex:
        """The pieces of all rows. One that is always the same, and a system prompt, is there but once."""
        systems: dict[Piece, int] = {}
        order: list[int] = []
        texts: list[Piece] = []
        shapes: list[Shape] = []
        some_odd = PLACEHOLDER in "\n".join(chain.from_iterable(rows))
        for row in rows:
            system, tools, roles = row[1:4]
            shape = self._shapes.get((system != "", roles)) or self._learn(system != "", roles)
            if shape is None or tools or (some_odd and PLACEHOLDER in "\n".join(row)):
                shape, pieces = _only_texts(self._render(Conversation.unpack(row)[1]))
                texts += pieces
            else:
                texts += map(mod, shape.formats, row[4:])
                if system:
                    order.append(systems.setdefault(shape.around % system, len(systems)))
            shapes.append(shape)
        numbers = np.concatenate([[], *[shape.numbers for shape in shapes]], dtype=np.int64, casting="unsafe")
        first = len(self._always)
        numbers[numbers == SYSTEM] = np.array(order, np.int64) + first
        numbers[numbers == TEXT] = np.arange(len(texts)) + first + len(systems)
        return PieceIndex([*self._always, *systems, *texts], numbers, [shape.parts for shape in shapes])

    def _learn(self, has_system: bool, roles: str) -> Shape | None:
        """None where somebody's words are not taken as they are, or not each by itself and in their order."""
        if not PLAIN_ROLES.issuperset(roles) or len(self._shapes) >= self.MAX_SHAPES:
            return None
        turns = [Turn(ROLES[role], f"\ufffe{at}\ufffe") for at, role in enumerate(roles, 1)]
        rendered = self._render(Conversation(tuple(turns), "\ufffe0\ufffe" if has_system else ""))
        formats = {} if has_system else {0: ""}
        sides = [
            [number for piece in side for number in self._apart(piece, formats)]
            for turn in rendered
            for side in turn
        ]
        if [*formats] != [*range(len(roles) + 1)]:
            return None
        sizes = [*map(len, sides)]
        numbers = np.array([*chain.from_iterable(sides)], np.int64)
        parts = [*zip(sizes[::2], sizes[1::2], strict=True)]
        around, *others = formats.values()
        return self._shapes.setdefault((has_system, roles), Shape(around, others, numbers, parts))

    def _apart(self, piece: Piece, formats: dict[int, str]) -> list[int]:
        """Numbers of the pieces that one becomes. The text in it gets its format."""
        match MARK.split(piece) if isinstance(piece, str) else []:
            case [before, number, after]:
                head, before, after, tail = self._cut(before, after)
                formats[int(number)] = f"{before.replace('%', '%%')}%s{after.replace('%', '%%')}"
                inner = TEXT if int(number) else SYSTEM
                return [*self._numbers(head), inner, *self._numbers(tail)]
            case _:
                return self._numbers(piece)

    def _numbers(self, always: Piece) -> list[int]:
        """Of a piece that is the same for every text; of none, if there is nothing in it."""
        return [] if always == "" else [self._always.setdefault(always, len(self._always))]

    def _cut(self, before: str, after: str) -> tuple[str, str, str, str]:
        """Both, each in two, at the added token that is nearest to the text."""
        ends = [found.end() for found in self._added.finditer(before)] if self._added else []
        first = self._added.search(after) if self._added else None
        start, end = ends[-1] if ends else 0, first.start() if first else len(after)
        return before[:start], before[start:], after[:end], after[end:]


def _only_texts(rendered: RenderedTurns) -> tuple[Shape, Sequence[Piece]]:
    """Of a row that has no shape, which is rendered by itself."""
    sides = [*chain.from_iterable(rendered)]
    pieces = [*chain.from_iterable(sides)]
    parts = [(len(asked), len(said)) for asked, said in rendered]
    return Shape("", (), np.full(len(pieces), TEXT), parts), pieces


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
