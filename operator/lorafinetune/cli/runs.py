"""Runs as the API server gives them, which may have been written by another version of the operator."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from lorafinetune.api.codec import InvalidResourceError, decode
from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.safetext import safe_line
from lorafinetune.api.status import LoRAFineTuneStatus
from lorafinetune.cli.errors import CommandError
from lorafinetune.contract.outcome import StageError
from lorafinetune.contract.times import duration, moment
from lorafinetune.core.conditions import ENDS, Situation
from lorafinetune.core.steps import refresh_of

NO_STATUS: Final = (
    "Give the resource with its status: `kubectl get lft NAME -o yaml`, or a run's resource.yaml."
)
NOT_YET: Final = (
    "It is there once its stage is complete; the merged model where `spec.export.merged` asks for it."
)


def decoded(run: Mapping[str, Any]) -> LoRAFineTune:
    """The run with its types. Raises CommandError where it is of another version."""
    try:
        return decode(run)
    except InvalidResourceError as problem:
        name, first = run["metadata"]["name"], safe_line(str(problem.problems[0]))
        raise CommandError(
            f"ConfigInvalid: {name} can't be read: {first}. Install the CLI in the operator's version."
        ) from None


def status_of(resource: LoRAFineTune) -> LoRAFineTuneStatus:
    return resource.status or LoRAFineTuneStatus()


def has_none(resource: LoRAFineTune, what: str) -> StageError:
    """Why an output of a run can't be had. what: the output."""
    told = f"the status of {resource.metadata.name} tells of no {what}"
    return StageError(Reason.CONFIG_INVALID, told, NOT_YET if resource.status else NO_STATUS)


def has_ended(resource: LoRAFineTune) -> bool:
    """Whether the operator has come to an end for the spec and the annotation as they are now."""
    status = status_of(resource)
    is_current = status.observed_generation == resource.metadata.generation and (
        status.observed_refresh or ""
    ) == refresh_of(resource)
    return is_current and any(c.type in ENDS and c.status == "True" for c in status.conditions)


def situation_of(resource: LoRAFineTune) -> Situation:
    """Where the run stands, from the condition that tells it."""
    status = status_of(resource)
    ready = next((c for c in status.conditions if c.type == "Ready"), None)
    if ready is None:
        return Situation("Waiting", "Unseen", "the operator has not looked at it yet")
    true = {c.type for c in status.conditions if c.status == "True"}
    ended = next((kind for kind in ENDS if kind in true), None)
    waits = status.failure or "Queued" in true or any(s.state == "Waiting" for s in status.stages)
    kind = ended or ("Waiting" if waits else "Running")
    return Situation(kind, ready.reason, ready.message)


def age(since: str | None, now: datetime) -> str:
    """How long ago a moment was, in at most two units."""
    then = moment(since)
    if then is None:
        return "-"
    seconds = max(0, int((now - then).total_seconds()))
    days, hours = divmod(seconds // 3600, 24)
    return f"{days}d{hours}h" if days else duration(seconds)


def clock() -> datetime:
    return datetime.now(UTC)
