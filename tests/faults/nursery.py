"""Forks processes that have everything imported already, so that one more start costs milliseconds.

A crash matrix starts hundreds of operators and stages. Each is a process of its own that a test may kill;
what it imports was imported once. Orders come as lines of JSON, and each is answered with a pid.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn, Self

from cluster.process import leashed

PR_SET_PDEATHSIG: Final = 1
POLL: Final = 0.002


class Nursery:
    """Starts processes from a program that has imported `modules`, from where the caller would. It ends them
    when it ends."""

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._parent: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        command = leashed([sys.executable, "-m", "faults.nursery", *self._modules])
        here = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        self._parent = subprocess.Popen(
            command, env=os.environ | here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._parent is not None
        self._parent.kill()
        self._parent.communicate()

    def start(self, function: str, arguments: list[Any], environment: Mapping[str, str], log: Path) -> int:
        """Runs `MODULE:FUNCTION` of the arguments, whose result is the exit status. Returns the pid."""
        assert self._parent is not None
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        order = [function, arguments, dict(environment), str(log)]
        self._parent.stdin.write(json.dumps(order) + "\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())


def is_alive(pid: int) -> bool:
    return Path("/proc", str(pid)).exists()


def await_end(pid: int) -> None:
    while is_alive(pid):
        time.sleep(POLL)


def main() -> None:
    for name in sys.argv[1:]:
        import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits: what has ended is gone at once
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _live(*json.loads(line))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _live(function: str, arguments: list[Any], environment: dict[str, str], log: str) -> NoReturn:
    code = 70
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _redirect(log)
        os.environ.update(environment)
        module, _, name = function.partition(":")
        code = int(getattr(import_module(module), name)(*arguments))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _redirect(log: str) -> None:
    nothing, file = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(nothing, 0)
    os.dup2(file, 1)
    os.dup2(file, 2)


if __name__ == "__main__":
    main()
