"""The commands `lorafinetune` and `kubectl_complete-finetune`, as they start.

What they import takes a while, in which Ctrl-C is no exception: imports may lose one or make another of it.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Final

__all__ = ["INTERRUPTED", "complete", "main"]

INTERRUPTED: Final = 130
"""As a shell has it, where a person or a reader that left has ended a command."""


def main() -> None:
    """`lorafinetune`, and `kubectl finetune`."""
    _start(_program)


def complete() -> None:
    """`kubectl_complete-finetune`."""
    _start(_completion)


def _start(imported: Callable[[], Callable[[], None]]) -> None:
    """Ctrl-C ends it without a traceback at any time, unless it was started to ignore Ctrl-C."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        command = imported()
        signal.signal(signal.SIGINT, before)
        command()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _program() -> Callable[[], None]:
    from lorafinetune.cli.program import main as program

    return program


def _completion() -> Callable[[], None]:
    from lorafinetune.cli.completion import main as completion

    return completion
