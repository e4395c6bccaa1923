"""Whether a template can write the tools of a row.

LLaMA-Factory's templates differ in what they take: one can't write two calls at once, another takes only
arguments that have names. On what it can't write, each raises an exception of its own.

Importing this module imports torch, transformers and LLaMA-Factory, which takes long.
"""

from typing import Any, Final

from llamafactory.data.template import Llama2Template

from lorafinetune_stages.prepare.conversation import Conversation
from lorafinetune_stages.prepare.findings import Kind, RowError

MAX_SHOWN: Final = 120


def check_tools(template: Any, conversation: Conversation) -> None:
    """template: LLaMA-Factory's. Raises RowError."""
    if conversation.tools:
        _try(template.format_tools, "tools", "its tools", content=conversation.tools)
    calls = [(at, turn.content) for at, turn in enumerate(conversation.turns, 1) if turn.role == "function"]
    if not calls:
        return
    words = {"thought_words": template.thought_words, "tool_call_words": template.tool_call_words}
    looked_for = {} if isinstance(template, Llama2Template) else words
    for at, content in calls:
        _try(template.format_function, f"turn {at}", "the tool call", content=content, **looked_for)


def can_write(template: Any, conversation: Conversation) -> bool:
    """As check_tools."""
    try:
        check_tools(template, conversation)
    except RowError:
        return False
    return True


def _try(formatter: Any, field: str, what: str, **content: Any) -> None:
    try:
        formatter.apply(**content)
    except Exception as problem:  # whatever a template's author did not think of
        why = str(problem)[:MAX_SHOWN]
        shown = why if why.isprintable() else ascii(why)
        raise RowError(Kind.TOOLS, field, f"the template can't write {what}: {shown}") from problem
