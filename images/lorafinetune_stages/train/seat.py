"""What a process that is one rank of a training is told: it runs the stage program once more, with a seat."""

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from lorafinetune.api.reasons import Reason
from lorafinetune.api.types import Model
from lorafinetune.contract.outcome import StageError

SEAT_VARIABLE: Final = "LORAFINETUNE_SEAT"
TCP: Final = "tcp://"
GO: Final = b"go\n"
PR_SET_PDEATHSIG: Final = 1


class Seat(Model):
    """rank: among `ranks`. first: rank of the first on this node. inputs: directory that all on this node
    share, with the inputs once the rank is told to go. meeting: by which the ranks find each other: a file,
    or `tcp://HOST:PORT` of the first rank where they are on several nodes. smaller: half of a step in one
    pass, for the memory did not do."""

    rank: Annotated[int, Field(ge=0)]
    ranks: Annotated[int, Field(ge=2)]
    first: Annotated[int, Field(ge=0)] = 0
    inputs: str
    meeting: str
    smaller: bool = False

    @classmethod
    def taken(cls) -> "Seat | None":
        """The seat of this process; None where it is no rank."""
        text = os.environ.get(SEAT_VARIABLE)
        return cls.model_validate_json(text) if text else None

    @property
    def directory(self) -> Path:
        return Path(self.inputs)

    @property
    def meets_on_disk(self) -> bool:
        """Whether all ranks are on one node."""
        return not self.meeting.startswith(TCP)

    def fasten(self) -> None:
        """From here on this process ends with the one that started it: a rank alone would hold its GPU."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def wait(self) -> None:
        """Returns when the inputs are there."""
        if sys.stdin.buffer.readline() != GO:
            raise StageError(Reason.RANK_LOST, "the process that started this rank is gone")
