"""Work that several processes share: results come in the order of their tasks, however many processes there
are.

The others are copies of this one, made when there is enough to do. They have everything that it has read
and imported, so only tasks and results are passed. If one is killed, that is an error. None outlives this
process, since each ends when nobody is left to send it a task.
"""

import math
import os
import signal
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, cycle, islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event
from typing import Any, Final, NoReturn, Self, TypeVar

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.shared_memory import SharedBuffer

AHEAD: Final = 2
"""Tasks that a process has at once."""
MOST: Final = 8
LIMIT: Final = Path("/sys/fs/cgroup/cpu.max")
SHARED: Final = Event()
"""Whether copies have the other processors."""
FORK: Final = get_context("fork")

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Task], Result], tasks: Iterable[Task], few: int
) -> Generator[Result, None, None]:
    """What `work` makes of each task. Tasks and results are pickled, `work` is not. Arrays of a result are
    good until the next one is asked for. This process does tasks too, while it waits for its copies.

    few: so many tasks are done by this process alone, since to copy it takes as long. Raises what `work`
    raises, and StageError(HostOutOfMemory) where a process is killed.
    """
    left = iter(tasks)
    first = list(islice(left, few + 1))
    count = processors() if len(first) > few else 1
    with _Team() as team:
        waiting: deque[_Member | _Done] = deque()
        for task in chain(first, left):
            while len(waiting) == AHEAD * count or (waiting and waiting[0].is_ready()):
                yield waiting.popleft().result()
            if len(team) < count - 1:
                SHARED.set()
                team.append(_Member(work, team))
            idle = min(team, key=lambda member: member.pending, default=None)
            if idle and idle.pending < AHEAD:
                idle.give(task)
                waiting.append(idle)
            else:
                waiting.append(_Done(*_tried(work, task)))
        while waiting:
            yield waiting.popleft().result()


def processors() -> int:
    """How many this process may use, by its affinity and by its container's limit."""
    allowed = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        quota, period = LIMIT.read_text(encoding="ascii").split()
        allowed = min(allowed, math.ceil(int(quota) / int(period)))
    return min(allowed, MOST)


def spare_processors() -> int:
    """How many of them threads of this process may use."""
    return 1 if SHARED.is_set() else processors()


@dataclass(frozen=True)
class _Done:
    """A task of this process' own."""

    succeeded: bool
    what: Any

    def is_ready(self) -> bool:
        return True

    def result(self) -> Any:
        if not self.succeeded:
            raise self.what
        return self.what


class _Member:
    """A copy of this process. others: those that were made before, whose lines are none of its business.
    pending: tasks that it was given, whose results were not asked for yet."""

    def __init__(self, work: Callable[[Any], Any], others: Sequence["_Member"]) -> None:
        self.pending = 0
        self._line, there = FORK.Pipe()
        self._buffers = cycle([SharedBuffer() for _ in range(AHEAD)])
        ours = [self._line, *(other._line for other in others)]
        arguments = work, there, self._buffers, ours
        self._process = FORK.Process(target=_serve, args=arguments, daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads: the copy has none, and needs none
            self._process.start()
        there.close()

    def is_ready(self) -> bool:
        """Whether `result` does not wait."""
        return self._line.poll()

    def give(self, task: Any) -> None:
        self.pending += 1
        try:
            self._line.send(task)
        except OSError:
            self._explain()

    def result(self) -> Any:
        """Of the task that was given before all others. Raises what was raised over it."""
        try:
            message = self._line.recv()
        except (EOFError, OSError):
            self._explain()
        self.pending -= 1
        return _Done(*next(self._buffers).take(message)).result()

    def kill(self) -> None:
        self._line.close()
        self._process.kill()

    def join(self) -> None:
        self._process.join()

    def _explain(self) -> NoReturn:
        self._process.join()
        code = self._process.exitcode or 0
        if code == -signal.SIGKILL:
            raise StageError(
                Reason.HOST_OUT_OF_MEMORY, "a process that shares the work was killed, for want of memory"
            )
        raise RuntimeError(f"a process that shares the work ended with exit code {code}")


class _Team(list[_Member]):
    """At its end all members end, at once: to give back the memory of one takes a while."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        SHARED.clear()
        for member in self:
            member.kill()
        for member in self:
            member.join()


def _serve(
    work: Callable[[Any], Any],
    tasks: Connection,
    buffers: Iterator[SharedBuffer],
    others: Iterable[Connection],
) -> None:
    """In the copy."""
    for other in others:
        other.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever presses Ctrl-C ends the one that was copied
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each has one processor
    with suppress(EOFError, OSError):
        while True:
            tasks.send(next(buffers).put(_tried(work, tasks.recv())))


def _tried(work: Callable[[Any], Any], task: Any) -> tuple[bool, Any]:
    try:
        return True, work(task)
    except Exception as problem:
        return False, problem
