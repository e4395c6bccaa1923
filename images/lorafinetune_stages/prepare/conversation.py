"""One row in the one shape that everything after reading works with."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

import orjson

Role = Literal["user", "assistant", "function", "observation"]
"""Who speaks, by LLaMA-Factory's own names; `function` is the model calling a tool."""
ANSWERING: Final = ("assistant", "function")
"""Roles of the model itself."""


class Turn(NamedTuple):
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """turns: user or observation, then assistant or function, and so on; never empty, and even in number.
    A pair of answers has one more: the answer that is rejected stands behind the one that is chosen. A plain
    text is one turn of the assistant.

    system and tools (JSON) are empty where the row has none.
    """

    turns: tuple[Turn, ...]
    system: str = ""
    tools: str = ""

    def without_rejected(self) -> "Conversation":
        """Of a pair, the conversation with the answer that is chosen; any other as it is."""
        is_pair = len(self.turns) > 1 and len(self.turns) % 2 == 1
        return replace(self, turns=self.turns[:-1]) if is_pair else self

    def with_answers(self, change: Callable[[str], str]) -> "Conversation":
        """The conversation with every answer in words changed; prompts and tool calls are kept."""
        turns = (
            Turn(turn.role, change(turn.content)) if turn.role == "assistant" else turn for turn in self.turns
        )
        return replace(self, turns=tuple(turns))

    def encode(self) -> bytes:
        """One line of JSON, without the end of the line."""
        return orjson.dumps([self.system, self.tools, [[*turn] for turn in self.turns]])

    @classmethod
    def decode(cls, line: bytes) -> "Conversation":
        system, tools, turns = orjson.loads(line)
        return cls(tuple(Turn(role, content) for role, content in turns), system, tools)
