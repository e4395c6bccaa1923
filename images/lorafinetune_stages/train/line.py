"""A connection between the stages of two nodes: one JSON object per line, and a heartbeat."""

import socket
from collections.abc import Callable
from typing import Annotated, Final

from pydantic import Field, ValidationError

from lorafinetune.api.status import Steps
from lorafinetune.api.types import Model

PERIOD_SECONDS: Final = 0.1
BEAT_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 60.0
"""After so long without a beat the other node is gone, or cut off."""
LONGEST: Final = 16 * 1024
"""Bytes of a line."""


class Word(Model):
    """node: who speaks, once it has its inputs; the first node says it when all have. failing: one of its
    ranks has failed, or another node has. checkpoint: step of the last one that the attempt left, as far as
    is known there. ended: how a try has ended, as a termination message."""

    node: Annotated[int, Field(ge=0)] | None = None
    failing: bool = False
    checkpoint: Steps | None = None
    ended: Annotated[str, Field(max_length=LONGEST)] | None = None


class Line:
    """One end of it. What was heard last stands in the attributes.

    failed_at: since when the other fails. lost: there is nothing more to be heard.
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
        self._heard = clock()
        self._told = (float("-inf"), Word())

    def close(self) -> None:
        self._connection.close()

    def say(self, word: Word) -> None:
        if self.lost:
            return
        try:
            self._connection.sendall(word.model_dump_json(exclude_none=True, by_alias=True).encode() + b"\n")
        except OSError:
            self.lost = True

    def beat(self, word: Word) -> None:
        """Says it when it is news, and from time to time."""
        now = self._clock()
        at, told = self._told
        if word != told or now - at >= BEAT_SECONDS:
            self._told = (now, word)
            self.say(word)

    def hear(self) -> None:
        """Takes in what has been said since."""
        while not self.lost and (data := self._received()):
            self._heard = self._clock()
            *lines, self._rest = (self._rest + data).split(b"\n")
            for each in lines:
                self._take(each)
            self.lost |= len(self._rest) > LONGEST

    def next_try(self) -> None:
        """All begin once more."""
        self.ended = self.failed_at = None

    def _received(self) -> bytes:
        """Nothing where there is nothing new."""
        try:
            data = self._connection.recv(LONGEST)
        except BlockingIOError:
            self.lost = self._clock() - self._heard > SILENCE_SECONDS
            return b""
        except OSError:
            data = b""
        self.lost = not data
        return data

    def _take(self, text: bytes) -> None:
        try:
            word = Word.model_validate_json(text)
        except ValidationError:
            self.lost = True
            return
        self.node = self.node if word.node is None else word.node
        self.ended = word.ended if self.ended is None else self.ended
        self.checkpoint = self.checkpoint if word.checkpoint is None else word.checkpoint
        if not word.failing:
            return
        if self.failed_at is None:
            self.failed_at = self._clock()
