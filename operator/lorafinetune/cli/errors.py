"""What ends a command: one sentence for a person, and an exit code for a script."""

import errno
from typing import Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import ExitCode, StageError


class CommandError(Exception):
    """message: reason, what happened, and what to do about it."""

    def __init__(self, message: str, code: int = ExitCode.BAD_INPUT) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


MADE_AGAIN: Final = (
    "Make it again: `lorafinetune run FILE`, or on a cluster with another value of the annotation "
    "lorafinetune.dev/refresh."
)
"""A command that only reads a store has nothing made again by itself."""

OPENED: Final = (
    "Grant read and list there, and write for `gc --delete`; or open it otherwise: --secrets, --endpoint, "
    "--store."
)
"""A command that reads a store needs less of it than a run, and other keys will do."""
HINTS: Final = {Reason.ARTIFACT_CORRUPT: MADE_AGAIN, Reason.STORAGE_DENIED: OPENED}


def refused(error: StageError) -> CommandError:
    """What a store, a file or a Secret is missing, as the end of a command."""
    told = with_hint(f"{error.reason}: {error.message}", HINTS.get(error.reason, error.hint))
    needs_a_person = error.reason.facts.retry.needs_a_person or error.reason is Reason.ARTIFACT_CORRUPT
    return CommandError(told, ExitCode.BAD_INPUT if needs_a_person else ExitCode.TEMPORARY)


def unusable(error: OSError, hint: str) -> CommandError:
    """A file or a folder that can't be used, in the system's own words."""
    reason = Reason.DISK_FULL if error.errno == errno.ENOSPC else Reason.STORAGE_DENIED
    return CommandError(f"{reason}: {_where(error)}{(error.strerror or 'unusable').lower()}. {hint}")


def _where(error: OSError) -> str:
    return f"{error.filename}: " if error.filename else ""


def sentence(error: StageError) -> str:
    """A failure in one line: `ConfigInvalid: spec.model: … . Edit …`."""
    return with_hint(f"{error.reason}: {error.message}", error.hint)


def with_hint(message: str, hint: str) -> str:
    """Both as sentences."""
    return f"{message}{'' if message.endswith('?') else '.'} {hint}"
