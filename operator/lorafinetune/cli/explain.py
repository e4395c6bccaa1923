"""`lorafinetune explain`: what a failure reason means, and what to do about it."""

from typing import Any

from lorafinetune.api.problem import suggestion
from lorafinetune.api.reasons import Reason
from lorafinetune.api.safetext import safe_line
from lorafinetune.cli.errors import CommandError
from lorafinetune.cli.output import Format, aligned, emit, output, structured


def explain(name: str, form: Format) -> None:
    """Prints one reason, or all of them where none is named. Raises CommandError for an unknown one."""
    if form.is_data:
        told = _facts(_reason(name)) if name else [_facts(reason) for reason in Reason]
        emit(structured(told, form))
    elif name:
        output.print(text(_reason(name)))
    else:
        for line in aligned([[reason, reason.facts.when] for reason in Reason]):
            output.print(line)


def text(reason: Reason) -> str:
    """The reason in a few lines."""
    facts = reason.facts
    return f"{reason}: {facts.when}\n\nWhat to do    {facts.hint}\nTried again   {facts.retry.meaning}"


def _facts(reason: Reason) -> dict[str, Any]:
    facts = reason.facts
    return {"reason": reason.value, "when": facts.when, "hint": facts.hint, "retry": facts.retry.value}


def _reason(name: str) -> Reason:
    known = {reason.lower(): reason for reason in Reason}
    if found := known.get(name.lower()):
        return found
    hint = suggestion(name, list(Reason)) or "`lorafinetune explain` lists them."
    raise CommandError(f"ConfigInvalid: there is no reason {safe_line(name)}. {hint[0].upper()}{hint[1:]}")
