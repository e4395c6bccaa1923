"""Whether answers introduce themselves by another name than the template's default system prompt gives.

A model that is told in every conversation that it is one, and learns to answer that it is another, learns
neither well.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from lorafinetune_stages.prepare.conversation import Conversation

TOLD: Final = re.compile(r"(?:\bYou are|\bnamed|你是|名为)\s*([A-Z][A-Za-z0-9_-]+)")
SAID: Final = re.compile(
    r"(?:\bI am|\bI'm|\bMy name is|\bmy name is|我是|我叫|我的名字[是叫])\s*([A-Z][A-Za-z0-9_-]{2,})"
    r"|(?:我叫|我的名字[是叫])([\u4e00-\u9fff]{1,6})(?![\u4e00-\u9fff])"
)
"""A name in Latin letters, or in Chinese ones after what nobody is but a name: 我是 is also "I am a"."""
EXAMINED_ROWS: Final = 2000
FEW: Final = 3
"""Fewer rows may speak of somebody else."""


def told_name(system: str) -> str:
    """The name that a system prompt gives the assistant; empty where it gives none."""
    found = TOLD.search(system)
    return found[1] if found else ""


def said_names(conversations: Iterable[Conversation]) -> Counter[str]:
    """Names by which rows without a system prompt introduce themselves, and in how many rows each."""
    counts: Counter[str] = Counter()
    for conversation in conversations:
        if not conversation.system:
            answers = (turn.content for turn in conversation.turns if turn.role == "assistant")
            counts.update({max(found) for answer in answers for found in SAID.findall(answer)})
    return counts


def contradiction(template: str, system: str, conversations: Iterable[Conversation]) -> str:
    """A warning, or nothing. system: the template's default system prompt. conversations: some rows."""
    told = told_name(system)
    if not told:
        return ""
    others = Counter({name: count for name, count in said_names(conversations).items() if name != told})
    if not others:
        return ""
    name, count = others.most_common(1)[0]
    if count < FEW:
        return ""
    return (
        f"{count} rows without a system prompt answer as {name}, but the default system prompt of {template} "
        f"says {told}: set datasets[].system"
    )
