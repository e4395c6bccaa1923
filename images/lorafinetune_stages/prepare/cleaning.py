"""Cleaning of the answers, step for step as the EmoLLM recipe does it by hand."""

import re
from typing import Final

from lorafinetune.api.spec import Clean
from lorafinetune_stages.prepare.conversation import Conversation

FIRST_LINE: Final = re.compile(r"^[^\n]+\n")


def clean(conversation: Conversation, rules: Clean) -> Conversation:
    """The conversation with its answers cleaned; prompts, system prompt and tool calls are kept."""
    if not rules.remove and not rules.drop_intro_line:
        return conversation
    return conversation.with_answers(lambda answer: clean_answer(answer, rules))


def clean_answer(answer: str, rules: Clean) -> str:
    """Texts are removed first; what then contains the intro text is stripped and loses its first line."""
    for text in rules.remove:
        answer = answer.replace(text, "")
    if rules.drop_intro_line and rules.drop_intro_line in answer:
        answer = FIRST_LINE.sub("", answer.strip(), count=1).strip()
    return answer
