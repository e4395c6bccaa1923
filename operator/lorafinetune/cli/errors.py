"""What ends a command: one sentence for a person, and an exit code for a script."""

from typing import Final

from lorafinetune.contract.outcome import ExitCode, StageError

LONGEST: Final = 500


class CommandError(Exception):
    """message: reason, what happened, and what to do about it."""

    def __init__(self, message: str, code: ExitCode = ExitCode.BAD_INPUT) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def sentence(error: StageError) -> str:
    """A failure in one line: `ConfigInvalid: spec.model: … . Edit …`."""
    return f"{error.reason}: {error.message}. {error.hint}"


def one_line(text: str) -> str:
    """A stranger's text without line breaks and terminal codes, and not too long."""
    flat = " ".join(text.split())
    return "".join(c if c.isprintable() else "\ufffd" for c in flat[:LONGEST])
