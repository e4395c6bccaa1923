"""A resource that the API server accepted and this operator can't read: its definition is of another version.

It waits, and goes on by itself once operator and definition fit each other again; what the status
remembers stays.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from lorafinetune.api.codec import InvalidResourceError
from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import Metadata
from lorafinetune.api.status import Condition, Failure, LoRAFineTuneStatus
from lorafinetune.core.conditions import Situation, conditions
from lorafinetune.core.events import Event
from lorafinetune.shell.projections import Object

MOST_NAMED: Final = 5
HINT: Final = (
    "Install the operator and the CustomResourceDefinition of the same version; "
    "the run then goes on by itself."
)


def status_of(obj: Object, error: InvalidResourceError, now: datetime) -> dict[str, Any]:
    """The status that says so; all but the conditions and the failure is as it was."""
    before: Mapping[str, Any] = obj.get("status") or {}
    generation = Metadata.decode(obj["metadata"]).generation
    named = "; ".join(map(str, error.problems[:MOST_NAMED]))[:4096]
    situation = Situation("Waiting", Reason.CONFIG_INVALID, named)
    previous = LoRAFineTuneStatus(conditions=tuple(_readable(before.get("conditions", []))))
    made = conditions(situation, LoRAFineTuneStatus(), previous, generation, now)
    failure = Failure(reason=Reason.CONFIG_INVALID, message=named, hint=HINT)
    return {
        **before,
        "observedGeneration": generation,
        "stage": situation.kind,
        "conditions": [condition.encode() for condition in made],
        "failure": failure.encode(),
    }


def event_of(status: Mapping[str, Any]) -> Event:
    return Event("Warning", Reason.CONFIG_INVALID, status["failure"]["message"])


def _readable(conditions_before: list[Object]) -> list[Condition]:
    readable = []
    for condition in conditions_before:
        try:
            readable.append(Condition.decode(condition))
        except ValueError:
            continue
    return readable
