"""Runs one stage: `python -m lorafinetune_stages STAGE`.

Arguments come as JSON in LORAFINETUNE_ARGUMENTS. Whatever happens, the stage leaves a termination
message with its result, or with a reason and a hint; a traceback goes to the log alone.

The first process of a container never hears of a signal that it has no handler for, and what follows is
slow to import: until the handler is there, SIGTERM is kept.
"""

import signal

if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

import logging
import os
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import ValidationError

from lorafinetune.api.problem import first_fault
from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import StageName
from lorafinetune.contract.arguments import (
    ARGUMENTS,
    ARGUMENTS_VARIABLE,
    DEFAULT_MESSAGE_PATH,
    MESSAGE_VARIABLE,
    STAGES,
    WORKDIR_VARIABLE,
    StageArguments,
)
from lorafinetune.contract.outcome import ExitCode, Result, StageError, encode_result
from lorafinetune_stages.loglines import configure as configure_log
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.errors import DamagedError
from lorafinetune_stages.store.factory import open_store
from lorafinetune_stages.store.manifest import take_back
from lorafinetune_stages.termination import fail, message_path

log = logging.getLogger("lorafinetune")

USAGE = f"""usage: python -m lorafinetune_stages {{{",".join(STAGES)}}}

Runs one stage of a LoRAFineTune with the arguments in ${ARGUMENTS_VARIABLE} (JSON),
and leaves its result in ${MESSAGE_VARIABLE} (default {DEFAULT_MESSAGE_PATH}).
"""


def main(argv: list[str]) -> int:
    stage = next((name for name in STAGES if argv == [name]), None)
    configure_log(stage)
    if stage is None:
        sys.stderr.write(USAGE)
        return ExitCode.BAD_INPUT
    message = message_path()
    signal.signal(signal.SIGTERM, _leave)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        result = _run(stage)
        message.write_text(encode_result(result))
        return ExitCode.DONE
    except BaseException as problem:
        return fail(problem, message)


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
        except DamagedError as damaged:
            _take_back(context.store, damaged)
            raise
        finally:
            context.progress.flush()


def _take_back(store: Store, damaged: DamagedError) -> None:
    """Whoever looks for the output from now on makes it again."""
    try:
        take_back(store, damaged)
    except StageError as problem:
        log.warning("%s stays, for this stage may not remove it: %s", damaged.place, problem.message)


def _arguments(stage: StageName) -> StageArguments:
    text = os.environ.get(ARGUMENTS_VARIABLE)
    if text is None:
        raise StageError(Reason.CONFIG_INVALID, f"the variable {ARGUMENTS_VARIABLE} is not set")
    try:
        return ARGUMENTS[stage].model_validate_json(text)
    except ValidationError as problem:
        message = ": ".join((ARGUMENTS_VARIABLE, *first_fault(problem)))
        raise StageError(Reason.CONFIG_INVALID, message) from problem


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise StageError(Reason.PREEMPTED, "the stage was asked to stop, and leaves nothing half-done behind")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
