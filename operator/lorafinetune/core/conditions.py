"""The situation of a run → its conditions, as kstatus, Argo CD and Flux read them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from lorafinetune.api.status import Condition, LoRAFineTuneStatus, StageName
from lorafinetune.core.results import rfc3339

Kind = Literal["Running", "Waiting", "Stopping", "Suspended", "Complete", "Failed"]


@dataclass(frozen=True)
class Situation:
    """Where a run stands: kind, the stage it is at, and why, in a word and in a sentence."""

    kind: Kind
    reason: str
    message: str
    stage: StageName | None = None


TRUE_CONDITIONS: Final[dict[Kind, frozenset[str]]] = {
    "Running": frozenset({"Reconciling"}),
    "Waiting": frozenset({"Reconciling"}),
    "Stopping": frozenset({"Reconciling"}),
    "Suspended": frozenset({"Suspended"}),
    "Complete": frozenset({"Ready", "Complete"}),
    "Failed": frozenset({"Stalled", "Failed"}),
}
"""Which conditions hold in which situation."""

ALWAYS: Final = ("Ready", "Reconciling", "Stalled")
ONLY_WHEN_TRUE: Final = ("Suspended", "Complete", "Failed")


def conditions(
    situation: Situation, previous: LoRAFineTuneStatus, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """All conditions; a transition time changes only with the condition's status."""
    holds = TRUE_CONDITIONS[situation.kind]
    before = {condition.type: condition for condition in previous.conditions}
    kept = [c for c in previous.conditions if c.type not in (*ALWAYS, *ONLY_WHEN_TRUE)]
    wanted = [*ALWAYS, *(name for name in ONLY_WHEN_TRUE if name in holds)]
    return (*(_condition(n, n in holds, situation, before.get(n), generation, now) for n in wanted), *kept)


def _condition(
    name: str,
    holds: bool,
    situation: Situation,
    before: Condition | None,
    generation: int,
    now: datetime,
) -> Condition:
    status: Literal["True", "False"] = "True" if holds else "False"
    unchanged = before is not None and before.status == status
    return Condition(
        type=name,
        status=status,
        observed_generation=generation,
        last_transition_time=before.last_transition_time if before and unchanged else rfc3339(now),
        reason=situation.reason,
        message=situation.message,
    )
