"""The operator as its image starts it, and a thread that notes what it holds: in FILE, a line a second."""

import asyncio
import gc
import json
import os
import sys
import threading
import time
from asyncio.base_events import BaseEventLoop
from pathlib import Path
from typing import Final

from lorafinetune.shell.__main__ import main

PERIOD_SECONDS: Final = 1.0
LOOPS: Final[list[BaseEventLoop]] = []
"""Those that have run."""


def remember_loops() -> None:
    original = BaseEventLoop.run_forever

    def run_forever(self: BaseEventLoop) -> None:
        LOOPS.append(self)
        original(self)

    BaseEventLoop.run_forever = run_forever  # type: ignore[method-assign]


def note(file: Path) -> None:
    while True:
        with file.open("a") as lines:
            lines.write(json.dumps(held()) + "\n")
        time.sleep(PERIOD_SECONDS)


def held() -> dict[str, float]:
    """Of this process, after it has thrown away what nobody refers to."""
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "memory MB": round(int(status["VmRSS"].split()[0]) * 1024 / 1e6, 1),
        "file descriptors": len(os.listdir("/proc/self/fd")),
        "threads": int(status["Threads"]),
        "tasks": sum(len(asyncio.all_tasks(loop)) for loop in LOOPS),
    }


if __name__ == "__main__":
    remember_loops()
    threading.Thread(target=note, args=(Path(sys.argv[1]),), daemon=True).start()
    sys.exit(main())
