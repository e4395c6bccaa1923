"""A connection between the stages of two nodes: one JSON object per line, and a heartbeat."""

import socket
from collections.abc import Callable
from typing import Annotated, Final

from pydantic import Field, ValidationError

from lorafinetune.api.status import Steps
from lorafinetune.api.types import Model

POLL_SECONDS: Final = 0.1
HEARTBEAT_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 60.0
"""After so long without a beat the other node is gone, or cut off."""
LONGEST: Final = 16 * 1024
"""Bytes of a line."""


class NodeMessage(Model):
    """node: who sends, once it has its inputs; the first node says it when all have. failing: one of its
    ranks has failed, or another node has. checkpoint: step of the last one that the attempt left, as far as
    is known there. ended: how a try has ended, as a termination message."""

    node: Annotated[int, Field(ge=0)] | None = None
    failing: bool = False
    checkpoint: Steps | None = None
    ended: Annotated[str, Field(max_length=LONGEST)] | None = None


class NodeConnection:
    """One end of it. What was received last stands in the attributes.

    failed_at: since when the other fails. lost: there is nothing more to receive.
    """

    def __init__(self, connection: socket.socket, clock: Callable[[], float]) -> None:
        connection.setblocking(False)
        self.node: int | None = None
        self.ended: str | None = None
        self.checkpoint: int | None = None
        self.failed_at: float | None = None
        self.lost = False
        self._connection = connection
        self._clock = clock
        self._rest = b""
        self._received_at = clock()
        self._last_sent = (float("-inf"), NodeMessage())

    def close(self) -> None:
        self._connection.close()

    def send(self, message: NodeMessage) -> None:
        if self.lost:
            return
        try:
            self._connection.sendall(
                message.model_dump_json(exclude_none=True, by_alias=True).encode() + b"\n"
            )
        except OSError:
            self.lost = True

    def heartbeat(self, message: NodeMessage) -> None:
        """Sends it when it is news, and from time to time."""
        now = self._clock()
        at, sent = self._last_sent
        if message != sent or now - at >= HEARTBEAT_SECONDS:
            self._last_sent = (now, message)
            self.send(message)

    def receive(self) -> None:
        """Takes in what has been sent since."""
        while not self.lost and (data := self._read()):
            self._received_at = self._clock()
            *lines, self._rest = (self._rest + data).split(b"\n")
            for each in lines:
                self._apply(each)
            self.lost |= len(self._rest) > LONGEST

    def next_try(self) -> None:
        """All begin once more."""
        self.ended = self.failed_at = None

    def _read(self) -> bytes:
        """Nothing where there is nothing new."""
        try:
            data = self._connection.recv(LONGEST)
        except BlockingIOError:
            self.lost = self._clock() - self._received_at > SILENCE_SECONDS
            return b""
        except OSError:
            data = b""
        self.lost = not data
        return data

    def _apply(self, text: bytes) -> None:
        try:
            message = NodeMessage.model_validate_json(text)
        except ValidationError:
            self.lost = True
            return
        self.node = self.node if message.node is None else message.node
        self.ended = message.ended if self.ended is None else self.ended
        self.checkpoint = self.checkpoint if message.checkpoint is None else message.checkpoint
        if not message.failing:
            return
        if self.failed_at is None:
            self.failed_at = self._clock()
