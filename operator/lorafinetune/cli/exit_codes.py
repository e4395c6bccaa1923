"""How a run's end looks to a script."""

from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import Failure
from lorafinetune.contract.outcome import ExitCode


def exit_code(resource: LoRAFineTune) -> ExitCode:
    """The exit code of a run that has ended."""
    status = resource.status
    if status and status.stage == "Complete":
        return ExitCode.DONE
    if status and status.failure:
        return _failure_code(status.failure)
    return ExitCode.STOPPED


def _failure_code(failure: Failure) -> ExitCode:
    """A reason that is not known is a newer operator's: nobody can say that trying again helps."""
    known = {reason.value: reason for reason in Reason}
    reason = known.get(failure.reason, Reason.INTERNAL)
    if reason is Reason.INTERNAL:
        return ExitCode.BUG
    return ExitCode.BAD_INPUT if reason.facts.retry.needs_a_person else ExitCode.TEMPORARY
