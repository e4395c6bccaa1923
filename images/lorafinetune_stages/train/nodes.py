"""The nodes of one training, as the stage of each sees the others: they begin together, and end in agreement.

If a peer is gone, torch's libraries only say that its connection is gone, and if its machine is cut off they
wait half an hour. So the stage of each node has a connection of its own to that of the first node. Over it
they learn that all have their inputs and are alive, which checkpoint the first has left, and in the end whose
failure ended the training.
"""

import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import INDEX_VARIABLE, MEETING_VARIABLE, NODES_VARIABLE
from lorafinetune.contract.outcome import StageError, TrainResult, decode_message, encode_error
from lorafinetune_stages.train.line import PERIOD_SECONDS, Line, Word
from lorafinetune_stages.train.mark import Mark

Outcome = TrainResult | StageError

PATIENCE_SECONDS: Final = 1800.0
"""How long nodes wait for one that has not come."""
CALL_SECONDS: Final = 2.0
LAST_WORDS_SECONDS: Final = 15.0
"""For all others, after one has failed: to notice, and to say what they know."""


@dataclass(frozen=True)
class Node:
    """index: among `count`. host, port: where the first one is found."""

    index: int = 0
    count: int = 1
    host: str = "localhost"
    port: int = 0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Node":
        """As Kubernetes has told this pod; where it said nothing, the only one."""
        if not (meeting := environment.get(MEETING_VARIABLE)):
            return cls()
        index, count = int(environment[INDEX_VARIABLE]), int(environment[NODES_VARIABLE])
        host, _, port = meeting.rpartition(":")
        return cls(index, count, host if index else "localhost", int(port))

    @classmethod
    def taken(cls) -> "Node":
        return cls.of(os.environ)

    def meet(self, mark: Mark) -> "Others":
        """mark: this node's, which the first one's rank that leads notes."""
        if self.count == 1:
            return NoOthers(self, mark)
        return Further(self, mark) if self.index else First(self, mark)


class Others(ABC):
    """The stages of the other nodes, while this is entered."""

    def __init__(self, node: Node, mark: Mark, clock: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._mark = mark
        self._clock = clock
        self._lines: dict[int, Line] = {}
        self._failed_at: float | None = None

    @property
    def nodes(self) -> int:
        """How many there are, with this one."""
        return self._node.count

    def __enter__(self) -> "Others":
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._lines.values():
            line.close()

    @abstractmethod
    def begin(self, check: Callable[[], None]) -> None:
        """Returns when all nodes have their inputs. check: raises where there is no need to wait any more."""

    @abstractmethod
    def agree(self, found: Outcome) -> Outcome:
        """What all nodes are to say, after a try that ended here as `found`. A result is one everywhere."""

    def hear(self, failing: bool) -> bool:
        """Whether another node is failing or gone. failing: whether this one is. To be called often."""
        if failing and self._failed_at is None:
            self._failed_at = self._clock()
        for line in self._lines.values():
            line.hear()
        trouble = [line for line in self._lines.values() if line.failed_at is not None or line.lost]
        for line in self._lines.values():
            fails = failing or any(other is not line for other in trouble)
            line.beat(Word(failing=fails, checkpoint=self._mark.step))
        return bool(trouble)

    def _wait(self, done: Callable[[], bool], check: Callable[[], None], seconds: float) -> bool:
        """Whether it was done in time; meanwhile all nodes hear that this one is alive."""
        until = self._clock() + seconds
        while not done():
            if self._clock() > until:
                return False
            check()
            time.sleep(PERIOD_SECONDS)
        return True

    def _next_try(self) -> None:
        self._failed_at = None
        for line in self._lines.values():
            line.next_try()

    def _lost(self, index: int, how: str) -> StageError:
        return StageError(Reason.RANK_LOST, f"node {index} of {self._node.count} {how}")


class NoOthers(Others):
    """Of a training on one node."""

    def begin(self, check: Callable[[], None]) -> None: ...

    def agree(self, found: Outcome) -> Outcome:
        return found


class First(Others):
    """On the first node, which hears all others, and decides."""

    def begin(self, check: Callable[[], None]) -> None:
        called: list[Line] = []
        with _listen(self._node.port) as server, _closed_in_the_end(called):

            def all_are_there() -> bool:
                called.extend(_callers(server, self._clock))
                self.hear(failing=False)
                for index in [index for index, line in self._lines.items() if line.lost]:
                    self._lines.pop(index).close()
                self._welcome(called)
                return len(self._lines) == self._node.count - 1

            if not self._wait(all_are_there, check, PATIENCE_SECONDS):
                missing = next(i for i in range(1, self._node.count) if i not in self._lines)
                raise self._lost(missing, f"has not come in {PATIENCE_SECONDS / 60:.0f} minutes")
        for line in self._lines.values():
            line.say(Word(node=0))

    def agree(self, found: Outcome) -> Outcome:
        if isinstance(found, TrainResult):
            return found

        def all_have_said() -> bool:
            self.hear(failing=True)
            return all(line.ended is not None or line.lost for line in self._lines.values())

        self._wait(all_have_said, lambda: None, 2 * LAST_WORDS_SECONDS)
        verdict = self._verdict(found)
        for line in self._lines.values():
            line.say(Word(ended=encode_error(verdict)))
        self._next_try()
        return verdict

    def _welcome(self, called: list[Line]) -> None:
        """Of those who called, the nodes that say which one they are."""
        for line in list(called):
            line.hear()
            if line.lost or line.node == 0:
                called.remove(line)
                line.close()
            elif line.node is not None and line.node < self._node.count and line.node not in self._lines:
                called.remove(line)
                self._lines[line.node] = line

    def _verdict(self, own: StageError) -> StageError:
        """Of all that the nodes say the cause, which is not that another is gone; of several what was said by
        the first that failed."""
        said = [(self._failed_at or 0.0, own)]
        for index, line in sorted(self._lines.items()):
            found = decode_message("train", line.ended or "")
            if isinstance(found, StageError):
                said.append((line.failed_at or self._clock(), found))
            elif line.lost:
                said.append((0.0, self._lost(index, "does not answer")))
        return first_cause([error for _, error in sorted(said, key=lambda each: each[0])])


class Further(Others):
    """On any other node."""

    def begin(self, check: Callable[[], None]) -> None:
        self._wait(self._has_called, check, PATIENCE_SECONDS)
        line = self._lines.get(0)
        if line is None:
            raise self._lost(0, f"has not come in {PATIENCE_SECONDS / 60:.0f} minutes")
        line.say(Word(node=self._node.index))

        def has_begun() -> bool:
            if self.hear(failing=False):
                raise self._lost(0, "has gone before the training began")
            return line.node is not None

        if not self._wait(has_begun, check, PATIENCE_SECONDS):
            raise self._lost(0, f"has not begun in {PATIENCE_SECONDS / 60:.0f} minutes")

    def agree(self, found: Outcome) -> Outcome:
        line = self._lines.get(0)
        if isinstance(found, TrainResult) or line is None:
            return found
        line.say(Word(ended=encode_error(found)))

        def has_decided() -> bool:
            self.hear(failing=True)
            return line.ended is not None or line.lost

        self._wait(has_decided, lambda: None, PATIENCE_SECONDS)
        verdict = decode_message("train", line.ended or "")
        self._next_try()
        if isinstance(verdict, StageError):
            return verdict
        return first_cause([self._lost(0, "does not answer"), found])

    def hear(self, failing: bool) -> bool:
        """Notes, too, how far the first has come, for the day that it is gone."""
        is_troubled = super().hear(failing)
        for line in self._lines.values():
            if line.checkpoint not in (None, self._mark.step):
                self._mark.note(line.checkpoint)
        return is_troubled

    def _has_called(self) -> bool:
        with suppress(OSError):
            connection = socket.create_connection((self._node.host, self._node.port), CALL_SECONDS)
            self._lines[0] = Line(connection, self._clock)
        return bool(self._lines)


def first_cause(said: Sequence[StageError]) -> StageError:
    """What ended a training, of what its processes say, the first that failed first."""
    outside = (Reason.PREEMPTED, Reason.RANK_LOST)
    causes = [error for error in said if error.reason not in outside]
    asked = [error for error in said if error.reason is Reason.PREEMPTED]
    return [*causes, *asked, *said][0]


def _listen(port: int) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    server = socket.create_server(("", port), family=family, dualstack_ipv6=both)
    server.setblocking(False)
    return server


@contextmanager
def _closed_in_the_end(lines: list[Line]) -> Iterator[None]:
    try:
        yield
    finally:
        for line in lines:
            line.close()


def _callers(server: socket.socket, clock: Callable[[], float]) -> list[Line]:
    found: list[Line] = []
    with suppress(BlockingIOError):
        while True:
            found.append(Line(server.accept()[0], clock))
    return found
