"""One row in the one shape that everything after reading works with."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

Role = Literal["user", "assistant", "function", "observation"]
"""Who speaks, by LLaMA-Factory's own names; `function` is the model calling a tool."""
ROLES: Final[dict[str, Role]] = {"u": "user", "a": "assistant", "f": "function", "o": "observation"}
"""By their initials."""
Packed = list[str]
"""A row as the corpus keeps it: its place, system prompt, tools, the initials of the roles, and the texts."""


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

    def pack(self, place: str) -> Packed:
        """The row, with its place."""
        roles = "".join([turn.role[0] for turn in self.turns])
        return [place, self.system, self.tools, roles, *[turn.content for turn in self.turns]]

    @classmethod
    def unpack(cls, row: Packed) -> tuple[str, "Conversation"]:
        """The place and the row."""
        place, system, tools, roles, *texts = row
        turns = map(Turn, map(ROLES.__getitem__, roles), texts)
        return place, cls(tuple(turns), system, tools)


def last_answer(row: Packed) -> str:
    """Of a pair, the one that is chosen."""
    is_pair = len(row[3]) > 1 and len(row[3]) % 2 == 1
    return row[-2 if is_pair else -1]


def uses_tools(row: Packed) -> bool:
    """Whether it describes any, or calls one."""
    return row[2] != "" or "f" in row[3]
