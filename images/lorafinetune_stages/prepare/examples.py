"""The rows of the data on which a template is compared with the model's own: one of each shape.

Two differences are none: many chat templates strip the blanks at the ends of a text, and those of models that
think leave out earlier thoughts. So rows are compared without both.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from lorafinetune_stages.prepare.conversation import Conversation, Turn
from lorafinetune_stages.prepare.corpus import Corpus
from lorafinetune_stages.prepare.selection import Rows

MOST: Final = 8
EXAMINED_ROWS: Final = 500
"""Of every dataset, the first that are used."""
MAX_CHARACTERS: Final = 8000
MANY_ROUNDS: Final = 3
"""As many questions and answers, or more, are one shape."""
THOUGHT: Final = re.compile(r"<think>.*?</think>", re.DOTALL)
ODD: Final = ("<think>", "</think>", "{{idx}}")
"""What is left of a thought, and what LLaMA-Factory's templates replace in a question by its number."""
TOOL_ROLES: Final = frozenset({"function", "observation"})

Shape = tuple[bool, bool, int, frozenset[str]]


@dataclass(frozen=True)
class Example:
    """place: dataset, file and line of the row."""

    place: str
    conversation: Conversation

    @property
    def has_tools(self) -> bool:
        return bool(self.conversation.tools) or any(
            turn.role in TOOL_ROLES for turn in self.conversation.turns
        )

    def with_system(self, system: str) -> Conversation:
        """The conversation, with this system prompt where it has none."""
        return replace(self.conversation, system=self.conversation.system or system)


def find_examples(corpus: Corpus, rows: Rows) -> Sequence[Example]:
    """The first row of each shape; at most MOST, of which those without tools come first."""
    found: dict[Shape, Example] = {}
    numbers = [
        row
        for split in (rows.train, rows.held_out)
        for row in _heads(corpus, split)
        if corpus.sizes[row] <= MAX_CHARACTERS
    ]
    for number, (place, row) in zip(numbers, corpus.read(numbers), strict=True):
        shape = _shape(row)
        if shape not in found and (bare := _bare(row)):
            found[shape] = Example(f"datasets[{corpus.dataset_of(number)}]: {place}", bare)
    return sorted(found.values(), key=lambda example: example.has_tools)[:MOST]


def _heads(corpus: Corpus, rows: Sequence[int]) -> Iterator[int]:
    start = 0
    for count in corpus.count_by_dataset(rows):
        yield from rows[start : start + min(count, EXAMINED_ROWS)]
        start += count


def _shape(row: Conversation) -> Shape:
    rounds = min(len(row.turns) // 2, MANY_ROUNDS)
    return bool(row.system), bool(row.tools), rounds, frozenset(turn.role for turn in row.turns)


def _bare(row: Conversation) -> Conversation | None:
    """The conversation without thoughts and blanks; None where a text is odd, or nothing is left of it."""
    turns = tuple(Turn(turn.role, _without_thought(turn)) for turn in row.without_rejected().turns)
    unfit = (not text or any(odd in text for odd in ODD) for _, text in turns)
    return None if any(unfit) else Conversation(turns, row.system.strip(), row.tools)


def _without_thought(turn: Turn) -> str:
    text = THOUGHT.sub("", turn.content) if turn.role == "assistant" else turn.content
    return text.strip()
