"""Two ranks of a training in processes of their own, of which the second may be a stranger."""

import math
from typing import Any, Final

from pydantic import TypeAdapter

from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.train import process_group
from lorafinetune_stages.train.rank_spec import RankSpec
from lorafinetune_stages.train.wire_format import WIRE_FORMAT

NUMBERS: Final[TypeAdapter[list[float] | None]] = TypeAdapter(list[float] | None, config=WIRE_FORMAT)
RANDOM: Final[TypeAdapter[bytes]] = TypeAdapter(bytes, config=WIRE_FORMAT)
Words = bytes | None
"""What a stranger says; None for a rank like any other."""


def rank(number: int, directory: str, words: Words, said: Any) -> None:
    """Runs in a process of its own, and tells what it has heard, or why it has refused to listen."""
    spec = RankSpec(rank=number, world_size=2, inputs=directory, rendezvous=f"{directory}/rendezvous")
    own = process_group.connect(spec, 0)
    try:
        if number and words is not None:
            own._gather_bytes(words)
        else:
            heard = own.gather([math.nan, -math.inf, 0.1 + number], NUMBERS), own.gather(b"\xff\x00", RANDOM)
            said.put((number, heard))
    except StageError as refused:
        if not number:
            said.put((number, refused.message))
