"""The command in processes of its own, without waiting for its imports each time.

`python -m forked` imports the command once, and forks for each call that it reads: so a test sees real pipes,
terminals and signals, a hundred times in seconds.
"""

import ctypes
import fcntl
import gc
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

BOUND_SECONDS: Final = 30
PIPE_BYTES: Final = 4096
QUESTION_ENDS: Final = ": "
LATE: Final = (
    *("jinja2", "kubernetes.client", "kubernetes.config", "rich.live", "typer.rich_utils"),
    *(f"lorafinetune.cli.{name}" for name in ("apply", "diff", "explain", "fetch", "gc", "init", "report")),
    *("lorafinetune.cli.program", "lorafinetune.cli.run", "lorafinetune.cli.watch"),
)
"""What a command imports only where it needs it."""
TESTS: Final = Path(__file__).parent


@dataclass(frozen=True)
class Call:
    """One call. columns: of its terminal; 0: it has none. answers: what a person types there, one at each
    question. is_read: whether somebody reads what it prints. is_watched: whether somebody reads what it says
    beside that. interrupt_at: when Ctrl-C is pressed: once its `output` fills a pipe, at its `prompt` on a
    terminal, or once a file is there, and it waits then."""

    arguments: tuple[str, ...]
    folder: str
    columns: int = 0
    is_read: bool = True
    is_watched: bool = True
    interrupt_at: str = ""
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ended:
    """How it went. On a terminal out holds both."""

    code: int
    out: str
    err: str


@contextmanager
def forking(**environment: str) -> Iterator[Callable[[Call], Ended]]:
    """Makes calls."""
    path = f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"
    program = subprocess.Popen(
        [sys.executable, "-m", "forked"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path} | environment,
    )
    assert program.stdin
    assert program.stdout
    source, answers = program.stdin, program.stdout

    def call(wanted: Call) -> Ended:
        source.write(json.dumps(asdict(wanted)) + "\n")
        source.flush()
        return Ended(**json.loads(answers.readline()))

    try:
        yield call
    finally:
        source.close()
        program.wait(BOUND_SECONDS)
        answers.close()


def serve() -> None:
    """Answers every line of standard input."""
    for name in LATE:
        import_module(name)
    gc.freeze()
    _give_up_powers()
    for line in sys.stdin:
        wanted = json.loads(line)
        call = Call(**wanted | {"arguments": tuple(wanted["arguments"])})
        ended = _on_terminal(call) if call.columns else _on_pipes(call)
        sys.stdout.write(json.dumps(asdict(ended)) + "\n")
        sys.stdout.flush()


def _give_up_powers() -> None:
    """Root reads and writes what nobody may; a person does not."""
    version, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(version, none):
        raise OSError(ctypes.get_errno(), "capset")


def _on_pipes(call: Call) -> Ended:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    told, telling = os.pipe()
    if not call.is_read:
        os.close(reading)
    if not call.is_watched:
        os.close(told)
    pid = _fork(call, {0: os.open(os.devnull, os.O_RDONLY), 1: writing, 2: telling}, (reading, told))
    os.close(writing)
    os.close(telling)
    with _bounded(pid):
        if call.interrupt_at:
            _interrupt(pid, call, reading)
        out = _read(reading) if call.is_read else ""
        return Ended(_code(pid), out, _read(told) if call.is_watched else "")


def _on_terminal(call: Call) -> Ended:
    own, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, call.columns, 0, 0))
    pid = _fork(call, dict.fromkeys(range(3), theirs), (own,))
    os.close(theirs)
    shown = ""
    with _bounded(pid):
        for answer in call.answers:
            shown += _question(own, pid)
            os.write(own, f"{answer}\n".encode())
        if call.interrupt_at:
            shown += _question(own, pid)
            os.write(own, b"\x03")
        shown += _read(own)
        return Ended(_code(pid), shown, "")


def _question(terminal: int, pid: int) -> str:
    """What a terminal shows until somebody is asked there, and waited for."""
    shown = ""
    with suppress(OSError):  # it ends without a question
        while not shown.endswith(QUESTION_ENDS):
            shown += os.read(terminal, 4096).decode(errors="replace")
        _until(lambda: _sleeps(pid))
    return shown


def _fork(call: Call, streams: dict[int, int], unused: tuple[int, ...]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        for number, descriptor in streams.items():
            os.dup2(descriptor, number)
        for descriptor in unused:
            _close(descriptor)
        if call.columns:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        _become(call)
    finally:
        os._exit(99)


def _close(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)


def _become(call: Call) -> None:
    """The command, as the interpreter would have started it."""
    import logging

    from lorafinetune.cli.program import main

    os.chdir(call.folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    sys.argv = ["lorafinetune", *call.arguments]
    logging.getLogger().handlers.clear()
    code: Any = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    try:
        sys.stdout.flush()
    except OSError:
        code = 120
    sys.stderr.flush()
    os._exit(int(code))


@contextmanager
def _bounded(pid: int) -> Iterator[None]:
    """Nobody waits longer than that for a call: one that hangs is killed, and the next has its own answer."""
    timer = threading.Timer(2 * BOUND_SECONDS, os.kill, (pid, signal.SIGKILL))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _interrupt(pid: int, call: Call, reading: int) -> None:
    _until(lambda: _waits(call, reading) and _sleeps(pid))
    os.kill(pid, signal.SIGINT)


def _until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND_SECONDS
    while time.monotonic() < deadline and not is_true():
        time.sleep(0.01)


def _sleeps(pid: int) -> bool:
    """Whether it is in the call that waits: a signal just before it is seen by Python only after it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def _waits(call: Call, reading: int) -> bool:
    if call.interrupt_at == "output":
        waiting = fcntl.ioctl(reading, termios.FIONREAD, b"\0" * 4)
        return int(struct.unpack("i", waiting)[0]) >= PIPE_BYTES
    return Path(call.interrupt_at).exists()


def _read(descriptor: int) -> str:
    parts = []
    with suppress(OSError):  # the other end of a terminal has gone
        while part := os.read(descriptor, 2**16):
            parts.append(part)
    os.close(descriptor)
    return b"".join(parts).decode(errors="replace")


def _code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    serve()
