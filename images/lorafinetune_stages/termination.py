"""How a failing stage ends: its log, its termination message and its exit code."""

import errno
import logging
import os
from pathlib import Path
from typing import NoReturn

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import DEFAULT_MESSAGE_PATH, MESSAGE_VARIABLE
from lorafinetune.contract.outcome import ExitCode, StageError, encode_error
from lorafinetune_stages.credentials import cleared

log = logging.getLogger("lorafinetune")


def message_path() -> Path:
    return Path(os.environ.get(MESSAGE_VARIABLE, DEFAULT_MESSAGE_PATH))


def fail(problem: BaseException, message: Path) -> ExitCode:
    """Leaves the failure in the log and as the termination message, and says with what code to exit."""
    error = without_credentials(explain(problem))
    if error.reason is Reason.INTERNAL:
        log.error("the stage failed", exc_info=problem)
    else:
        log.error("%s: %s", error.reason, error.message)
    message.write_text(encode_error(error))
    return exit_code(error)


def abandon(error: StageError) -> NoReturn:
    """Ends the process at once, from any thread, whatever the others are in."""
    os._exit(fail(error, message_path()))


def explain(problem: BaseException) -> StageError:
    """The failure that a person gets to see for an exception."""
    match problem:
        case StageError():
            return problem
        case MemoryError():
            return StageError(Reason.HOST_OUT_OF_MEMORY, "the stage ran out of memory")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return StageError(Reason.DISK_FULL, f"no space left on the disk: {problem.filename or 'scratch'}")
        case OSError(errno=errno.EIO | errno.ESTALE):
            where = problem.filename or "scratch"
            return StageError(Reason.DATA_UNREADABLE, f"the disk can't be read or written: {where}")
        case KeyboardInterrupt():
            return StageError(Reason.PREEMPTED, "the stage was interrupted")
        case _:
            return StageError(Reason.INTERNAL, cleared(f"{type(problem).__name__}: {problem}")[:1000])


def without_credentials(error: StageError) -> StageError:
    """The failure as everybody may read it."""
    return StageError(error.reason, cleared(error.message), cleared(error.hint), error.checkpoint)


def exit_code(error: StageError) -> ExitCode:
    if error.reason is Reason.PREEMPTED:
        return ExitCode.STOPPED
    if error.reason is Reason.INTERNAL:
        return ExitCode.BUG
    return ExitCode.BAD_INPUT if error.reason.facts.retry.needs_a_person else ExitCode.TEMPORARY
