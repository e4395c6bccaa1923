"""Runs a stranger's program, such as a model's chat template, where it can take neither long nor much memory.

The sandbox of Jinja keeps a template from everything but the processor and the memory. So the template runs
in a copy of this process, which has all that it needs, and which the system ends at its limits.
"""

import json
import os
import resource
import signal
import warnings
from collections.abc import Callable
from typing import Final, NoReturn

CPU_SECONDS: Final = 20
SECONDS: Final = 120
"""Of the clock, on a machine that is busy with others."""
MORE_BYTES: Final = 2**30
"""What it may take beside what this process has."""
MAX_ANSWER_BYTES: Final = 2**20

Texts = list[str | None]


def bounded(render: Callable[[], Texts]) -> Texts | None:
    """What `render` gives; None where it does not end in time, or in bounds."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads: the copy has none, and needs none
        child = os.fork()
    if not child:
        os.close(reading)  # or it would wait for itself to read what is too much
        _answer(writing, render)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as answer:
            said = answer.read(MAX_ANSWER_BYTES + 1)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(child, 0)
    return list(json.loads(said)) if status == 0 and len(said) <= MAX_ANSWER_BYTES else None


def _answer(writing: int, render: Callable[[], Texts]) -> NoReturn:
    """In the copy, which ends here whatever happens: nothing of this process must be done twice."""
    try:
        for ends in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(ends, signal.SIG_DFL)
        signal.alarm(SECONDS)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        most = _address_space() + MORE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        with os.fdopen(writing, "wb") as answer:
            answer.write(json.dumps(render()).encode())
        os._exit(0)
    finally:
        os._exit(1)


def _address_space() -> int:
    with open("/proc/self/statm", encoding="ascii") as sizes:
        return int(sizes.read().split()[0]) * resource.getpagesize()
