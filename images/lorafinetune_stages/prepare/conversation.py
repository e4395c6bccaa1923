"""One row in the one shape that everything after reading works with."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

Role = Literal["user", "assistant", "function", "observation"]
"""Who speaks, by LLaMA-Factory's own names; `function` is the model calling a tool."""
ANSWERING: Final = ("assistant", "function")
"""Roles of the model itself."""


@dataclass(frozen=True, slots=True)
class Turn:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """turns: user or observation, then assistant or function, and so on; never empty, and even in number.

    system and tools (JSON) are empty where the row has none.
    """

    turns: tuple[Turn, ...]
    system: str = ""
    tools: str = ""

    def with_answers(self, change: Callable[[str], str]) -> "Conversation":
        """The conversation with every answer in words changed; prompts and tool calls are kept."""
        turns = (
            Turn(turn.role, change(turn.content)) if turn.role == "assistant" else turn for turn in self.turns
        )
        return replace(self, turns=tuple(turns))

    def encode(self) -> bytes:
        """One line of JSON, without the end of the line."""
        turns = [(turn.role, turn.content) for turn in self.turns]
        return json.dumps([self.system, self.tools, turns], ensure_ascii=False).encode()

    @classmethod
    def decode(cls, line: bytes) -> "Conversation":
        system, tools, turns = json.loads(line)
        return cls(tuple(Turn(role, content) for role, content in turns), system, tools)
