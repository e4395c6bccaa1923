"""Two ranks of a training in processes of their own, of which the second may be a stranger."""

import math
from typing import Any, Final

from pydantic import TypeAdapter

from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.train import peers
from lorafinetune_stages.train.said import SAID
from lorafinetune_stages.train.seat import Seat

NUMBERS: Final[TypeAdapter[list[float] | None]] = TypeAdapter(list[float] | None, config=SAID)
RANDOM: Final[TypeAdapter[bytes]] = TypeAdapter(bytes, config=SAID)
Words = bytes | None
"""What a stranger says; None for a rank like any other."""


def rank(number: int, directory: str, words: Words, said: Any) -> None:
    """Runs in a process of its own, and tells what it has heard, or why it has refused to listen."""
    seat = Seat(rank=number, ranks=2, inputs=directory, meeting=f"{directory}/meeting")
    own = peers.connect(seat, 0)
    try:
        if number and words is not None:
            own._gather_bytes(words)
        else:
            heard = own.gather([math.nan, -math.inf, 0.1 + number], NUMBERS), own.gather(b"\xff\x00", RANDOM)
            said.put((number, heard))
    except StageError as refused:
        if not number:
            said.put((number, refused.message))
