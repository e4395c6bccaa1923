"""The situation of a run → its conditions, as kstatus, Argo CD and Flux read them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from lorafinetune.api.status import Condition, Estimate, LoRAFineTuneStatus, StageName
from lorafinetune.contract.times import duration, rfc3339
from lorafinetune.core.gate import GateResult
from lorafinetune.core.steps import stage_status

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
ONLY_WHEN_TRUE: Final = ("Queued", "Suspended", "Complete", "Failed")
ENDS: Final = ("Complete", "Failed", "Suspended")
"""Conditions with which a run has come to rest."""
QUEUED: Final = "Queued"
"""Reason of a training that its queue holds."""
IN_QUEUE: Final = "the training waits in its queue"
"""Its message, before the queue has said why."""
EVAL_PASSED: Final = "EvalPassed"
"""Condition, and its reason where it holds."""


def conditions(
    situation: Situation,
    status: LoRAFineTuneStatus,
    previous: LoRAFineTuneStatus,
    generation: int,
    now: datetime,
    verdict: GateResult | None = None,
) -> tuple[Condition, ...]:
    """All conditions; a transition time changes only with the condition's status. verdict: of the gate, where
    there is one and the training has come to it."""
    holds = TRUE_CONDITIONS[situation.kind] | ({QUEUED} if situation.reason == QUEUED else set())
    wanted = [*ALWAYS, *(name for name in ONLY_WHEN_TRUE if name in holds)]
    told = [_Assertion(name, name in holds, situation.reason, situation.message) for name in wanted]
    before = {condition.type: condition for condition in previous.conditions}
    return tuple(
        _condition(each, before.get(each.name), generation, now)
        for each in (*told, *_validated(situation, status), *_judged(verdict))
    )


@dataclass(frozen=True)
class _Assertion:
    name: str
    holds: bool
    reason: str
    message: str


def _validated(situation: Situation, status: LoRAFineTuneStatus) -> Iterator[_Assertion]:
    """Whether data and configuration were proven good; silent until that is known."""
    if situation.stage in ("train", "export") or situation.kind == "Complete":
        warnings = stage_status(status, "prepare").message
        told = "; ".join(filter(None, (_outlook(status), warnings)))
        yield _Assertion("Validated", True, "Warnings" if warnings else "Validated", told)
    elif situation.kind == "Failed":
        yield _Assertion("Validated", False, situation.reason, situation.message)


def _judged(verdict: GateResult | None) -> Iterator[_Assertion]:
    if verdict:
        reason = verdict.error.reason if verdict.error else EVAL_PASSED
        yield _Assertion(EVAL_PASSED, verdict.error is None, reason, verdict.message)


def _outlook(status: LoRAFineTuneStatus) -> str:
    rows = f"{status.dataset.rows} rows to learn from" if status.dataset else ""
    estimate = status.estimate
    if estimate is None:
        return rows
    memory = f", {estimate.gpu_memory / 2**30:.1f} GiB of GPU memory" if estimate.gpu_memory else ""
    disk = f"{estimate.disk / 2**30:.1f} GiB of disk"
    steps = f"about {estimate.steps} steps in {duration(estimate.seconds)}"
    return f"{rows}; {steps}{_evaluating(estimate)}{memory}, {disk}"


def _evaluating(estimate: Estimate) -> str:
    """What evaluations cost, where there are any."""
    share = round(100 * estimate.evaluating_seconds / max(estimate.seconds, 1))
    return f" and {share}% of the time in evaluations" if estimate.evaluating_seconds else ""


def _condition(assertion: _Assertion, before: Condition | None, generation: int, now: datetime) -> Condition:
    status: Literal["True", "False"] = "True" if assertion.holds else "False"
    unchanged = before is not None and before.status == status
    return Condition(
        type=assertion.name,
        status=status,
        observed_generation=generation,
        last_transition_time=before.last_transition_time if before and unchanged else rfc3339(now),
        reason=assertion.reason,
        message=assertion.message,
    )
