"""Runs the operator until it is told to stop."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress

from lorafinetune.shell.connection import NoClusterError
from lorafinetune.shell.logs import configure
from lorafinetune.shell.operator import Operator
from lorafinetune.shell.settings import SettingsError, ShellSettings, read

STOPS = (signal.SIGTERM, signal.SIGINT)


def main() -> int:
    """The exit status: 0 when told to stop, 2 for wrong settings, 1 where the cluster can't be reached."""
    try:
        settings = read(os.environ)
    except SettingsError as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    configure(settings.log_format)
    try:
        with suppress(asyncio.CancelledError):
            asyncio.run(_until_stopped(settings, os.environ))
    except (NoClusterError, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


async def _until_stopped(settings: ShellSettings, environment: Mapping[str, str]) -> None:
    this, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert this is not None  # noqa: S101 - a coroutine runs in a task

    def listen_to_signals() -> None:
        for stop in STOPS:
            loop.add_signal_handler(stop, this.cancel)

    listen_to_signals()
    try:
        await Operator(settings, environment, listen_to_signals).run()
    finally:
        loop.set_exception_handler(lambda *_: None)  # kopf leaves generators behind, which complain


if __name__ == "__main__":
    sys.exit(main())
