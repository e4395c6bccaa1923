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
from lorafinetune_stages.train.last_checkpoint import LastCheckpoint
from lorafinetune_stages.train.node_connection import POLL_SECONDS, NodeConnection, NodeMessage

Outcome = TrainResult | StageError

PATIENCE_SECONDS: Final = 1800.0
"""How long nodes wait for one that has not come."""
CALL_SECONDS: Final = 2.0
LAST_WORDS_SECONDS: Final = 15.0
"""For all others, after one has failed: to notice, and to say what they know."""


@dataclass(frozen=True)
class Node:
    """index: among `count`. host, port: where the first one is reached."""

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
    def from_environment(cls) -> "Node":
        return cls.of(os.environ)

    def connect(self, last_checkpoint: LastCheckpoint) -> "NodeGroup":
        """last_checkpoint: this node's, which the first one's rank that leads notes."""
        if self.count == 1:
            return SingleNode(self, last_checkpoint)
        return Member(self, last_checkpoint) if self.index else Coordinator(self, last_checkpoint)


class NodeGroup(ABC):
    """The stages of the other nodes, while this is entered."""

    def __init__(
        self, node: Node, last_checkpoint: LastCheckpoint, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._node = node
        self._last_checkpoint = last_checkpoint
        self._clock = clock
        self._connections: dict[int, NodeConnection] = {}
        self._failed_at: float | None = None

    @property
    def count(self) -> int:
        """How many there are, with this one."""
        return self._node.count

    def __enter__(self) -> "NodeGroup":
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections.values():
            connection.close()

    @abstractmethod
    def begin(self, check: Callable[[], None]) -> None:
        """Returns when all nodes have their inputs. check: raises where there is no need to wait any more."""

    @abstractmethod
    def agree(self, outcome: Outcome) -> Outcome:
        """What all nodes are to say, after a try that ended here as `outcome`. A result is one everywhere."""

    def poll(self, failing: bool) -> bool:
        """Whether another node is failing or gone. failing: whether this one is. To be called often."""
        if failing and self._failed_at is None:
            self._failed_at = self._clock()
        for connection in self._connections.values():
            connection.receive()
        connections = self._connections.values()
        trouble = [each for each in connections if each.failed_at is not None or each.lost]
        for connection in self._connections.values():
            fails = failing or any(other is not connection for other in trouble)
            connection.heartbeat(NodeMessage(failing=fails, checkpoint=self._last_checkpoint.step))
        return bool(trouble)

    def _wait(self, done: Callable[[], bool], check: Callable[[], None], seconds: float) -> bool:
        """Whether it was done in time; meanwhile all nodes hear that this one is alive."""
        until = self._clock() + seconds
        while not done():
            if self._clock() > until:
                return False
            check()
            time.sleep(POLL_SECONDS)
        return True

    def _next_try(self) -> None:
        self._failed_at = None
        for connection in self._connections.values():
            connection.next_try()

    def _lost(self, index: int, how: str) -> StageError:
        return StageError(Reason.RANK_LOST, f"node {index} of {self._node.count} {how}")


class SingleNode(NodeGroup):
    """Of a training on one node."""

    def begin(self, check: Callable[[], None]) -> None: ...

    def agree(self, outcome: Outcome) -> Outcome:
        return outcome


class Coordinator(NodeGroup):
    """On the first node, which hears all others, and decides."""

    def begin(self, check: Callable[[], None]) -> None:
        accepted: list[NodeConnection] = []
        with _listen(self._node.port) as server, _closing(accepted):

            def all_are_there() -> bool:
                accepted.extend(_accepted(server, self._clock))
                self.poll(failing=False)
                for index in [index for index, connection in self._connections.items() if connection.lost]:
                    self._connections.pop(index).close()
                self._admit(accepted)
                return len(self._connections) == self._node.count - 1

            if not self._wait(all_are_there, check, PATIENCE_SECONDS):
                missing = next(i for i in range(1, self._node.count) if i not in self._connections)
                raise self._lost(missing, f"has not come in {PATIENCE_SECONDS / 60:.0f} minutes")
        for connection in self._connections.values():
            connection.send(NodeMessage(node=0))

    def agree(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, TrainResult):
            return outcome

        def all_have_said() -> bool:
            self.poll(failing=True)
            return all(each.ended is not None or each.lost for each in self._connections.values())

        self._wait(all_have_said, lambda: None, 2 * LAST_WORDS_SECONDS)
        verdict = self._verdict(outcome)
        for connection in self._connections.values():
            connection.send(NodeMessage(ended=encode_error(verdict)))
        self._next_try()
        return verdict

    def _admit(self, accepted: list[NodeConnection]) -> None:
        """Of the callers, the nodes that say which one they are."""
        for connection in list(accepted):
            connection.receive()
            node = connection.node
            if connection.lost or node == 0:
                accepted.remove(connection)
                connection.close()
            elif node is not None and node < self._node.count and node not in self._connections:
                accepted.remove(connection)
                self._connections[node] = connection

    def _verdict(self, own: StageError) -> StageError:
        """Of all that the nodes say the cause, which is not that another is gone; of several what was said by
        the first that failed."""
        errors = [(self._failed_at or 0.0, own)]
        for index, connection in sorted(self._connections.items()):
            found = decode_message("train", connection.ended or "")
            if isinstance(found, StageError):
                errors.append((connection.failed_at or self._clock(), found))
            elif connection.lost:
                errors.append((0.0, self._lost(index, "does not answer")))
        return first_cause([error for _, error in sorted(errors, key=lambda each: each[0])])


class Member(NodeGroup):
    """On any other node."""

    def begin(self, check: Callable[[], None]) -> None:
        self._wait(self._has_connected, check, PATIENCE_SECONDS)
        connection = self._connections.get(0)
        if connection is None:
            raise self._lost(0, f"has not come in {PATIENCE_SECONDS / 60:.0f} minutes")
        connection.send(NodeMessage(node=self._node.index))

        def has_begun() -> bool:
            if self.poll(failing=False):
                raise self._lost(0, "has gone before the training began")
            return connection.node is not None

        if not self._wait(has_begun, check, PATIENCE_SECONDS):
            raise self._lost(0, f"has not begun in {PATIENCE_SECONDS / 60:.0f} minutes")

    def agree(self, outcome: Outcome) -> Outcome:
        connection = self._connections.get(0)
        if isinstance(outcome, TrainResult) or connection is None:
            return outcome
        connection.send(NodeMessage(ended=encode_error(outcome)))

        def has_decided() -> bool:
            self.poll(failing=True)
            return connection.ended is not None or connection.lost

        self._wait(has_decided, lambda: None, PATIENCE_SECONDS)
        verdict = decode_message("train", connection.ended or "")
        self._next_try()
        if isinstance(verdict, StageError):
            return verdict
        return first_cause([self._lost(0, "does not answer"), outcome])

    def poll(self, failing: bool) -> bool:
        """Notes, too, how far the first has come, for the day that it is gone."""
        is_troubled = super().poll(failing)
        for connection in self._connections.values():
            if connection.checkpoint not in (None, self._last_checkpoint.step):
                self._last_checkpoint.record(connection.checkpoint)
        return is_troubled

    def _has_connected(self) -> bool:
        with suppress(OSError):
            connection = socket.create_connection((self._node.host, self._node.port), CALL_SECONDS)
            self._connections[0] = NodeConnection(connection, self._clock)
        return bool(self._connections)


def first_cause(errors: Sequence[StageError]) -> StageError:
    """What ended a training, of what its processes say, the first that failed first."""
    outside = (Reason.PREEMPTED, Reason.RANK_LOST)
    causes = [error for error in errors if error.reason not in outside]
    asked = [error for error in errors if error.reason is Reason.PREEMPTED]
    return [*causes, *asked, *errors][0]


def _listen(port: int) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    server = socket.create_server(("", port), family=family, dualstack_ipv6=both)
    server.setblocking(False)
    return server


@contextmanager
def _closing(connections: list[NodeConnection]) -> Iterator[None]:
    try:
        yield
    finally:
        for connection in connections:
            connection.close()


def _accepted(server: socket.socket, clock: Callable[[], float]) -> list[NodeConnection]:
    found: list[NodeConnection] = []
    with suppress(BlockingIOError):
        while True:
            found.append(NodeConnection(server.accept()[0], clock))
    return found
