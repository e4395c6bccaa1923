"""Runs one stage: `python -m lorafinetune_stages STAGE`.

Arguments come as JSON in LORAFINETUNE_ARGUMENTS. Whatever happens, the stage leaves a termination
message with its result, or with a reason and a hint; a traceback goes to the log alone.

The first process of a container never hears of a signal that it has no handler for, and what follows is
slow to import: until the handler is there, SIGTERM is kept.
"""

import signal

if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

import errno
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, Final

from pydantic import ValidationError

from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import StageName
from lorafinetune.contract.arguments import (
    ARGUMENTS,
    ARGUMENTS_VARIABLE,
    CREDENTIAL_PREFIX,
    DEFAULT_MESSAGE_PATH,
    MESSAGE_VARIABLE,
    STAGES,
    WORKDIR_VARIABLE,
    StageArguments,
)
from lorafinetune.contract.outcome import ExitCode, Result, StageError, encode_error, encode_result
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store.opening import open_store

log = logging.getLogger("lorafinetune")

REDACTED: Final = "[redacted]"
SHORTEST: Final = 8
"""Characters of a credential; what is shorter could be any word."""
PUBLIC_HALF: Final = "_AWS_ACCESS_KEY_ID"

USAGE = f"""usage: python -m lorafinetune_stages {{{",".join(STAGES)}}}

Runs one stage of a LoRAFineTune with the arguments in ${ARGUMENTS_VARIABLE} (JSON),
and leaves its result in ${MESSAGE_VARIABLE} (default {DEFAULT_MESSAGE_PATH}).
"""


def main(argv: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stage = next((name for name in STAGES if argv == [name]), None)
    if stage is None:
        sys.stderr.write(USAGE)
        return ExitCode.BAD_INPUT
    message = Path(os.environ.get(MESSAGE_VARIABLE, DEFAULT_MESSAGE_PATH))
    signal.signal(signal.SIGTERM, _leave)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        result = _run(stage)
        message.write_text(encode_result(result))
        return ExitCode.DONE
    except BaseException as problem:
        error = without_credentials(explain(problem))
        if error.reason is Reason.INTERNAL:
            log.exception("the stage failed")
        else:
            log.error("%s: %s", error.reason, error.message)
        message.write_text(encode_error(error))
        return exit_code(error)


def explain(problem: BaseException) -> StageError:
    """The failure that a person gets to see for an exception."""
    match problem:
        case StageError():
            return problem
        case MemoryError():
            return StageError(Reason.HOST_OUT_OF_MEMORY, "the stage ran out of memory")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return StageError(Reason.DISK_FULL, f"no space left on the disk: {problem.filename or 'scratch'}")
        case KeyboardInterrupt():
            return StageError(Reason.PREEMPTED, "the stage was interrupted")
        case _:
            return StageError(Reason.INTERNAL, f"{type(problem).__name__}: {problem}"[:1000])


def without_credentials(error: StageError) -> StageError:
    """The failure as everybody may read it. What a server names its files, or whatever else it answers, may
    be the very token that it was sent."""
    message, hint = error.message, error.hint
    for credential in _credentials():
        message, hint = message.replace(credential, REDACTED), hint.replace(credential, REDACTED)
    return StageError(error.reason, message, hint)


def _credentials() -> Iterator[str]:
    for name, value in os.environ.items():
        if name.startswith(CREDENTIAL_PREFIX) and not name.endswith(PUBLIC_HALF) and len(value) >= SHORTEST:
            yield value.strip()


def exit_code(error: StageError) -> ExitCode:
    if error.reason is Reason.PREEMPTED:
        return ExitCode.STOPPED
    if error.reason is Reason.INTERNAL:
        return ExitCode.BUG
    return ExitCode.BAD_INPUT if error.reason.facts.retry.needs_a_person else ExitCode.TEMPORARY


def _run(stage: StageName) -> Result:
    arguments = _arguments(stage)
    program: Callable[[Any, Context], Result] = import_module(f"lorafinetune_stages.{stage}").run
    with tempfile.TemporaryDirectory(dir=os.environ.get(WORKDIR_VARIABLE), prefix=f"{stage}-") as scratch:
        context = Context(
            store=open_store(arguments.storage.uri, arguments.connection(arguments.storage.connection)),
            workdir=Path(scratch),
            progress=Reporter.from_environment(stage),
        )
        try:
            return program(arguments, context)
        finally:
            context.progress.flush()


def _arguments(stage: StageName) -> StageArguments:
    text = os.environ.get(ARGUMENTS_VARIABLE)
    if text is None:
        raise StageError(Reason.CONFIG_INVALID, f"the variable {ARGUMENTS_VARIABLE} is not set")
    try:
        return ARGUMENTS[stage].model_validate_json(text)
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StageError(Reason.CONFIG_INVALID, f"{ARGUMENTS_VARIABLE}: {where}: {first['msg']}") from problem


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise StageError(Reason.PREEMPTED, "the stage was asked to stop, and leaves nothing half-done behind")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
