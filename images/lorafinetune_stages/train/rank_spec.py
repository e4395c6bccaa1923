"""What a process that is one rank of a training is told: the stage program, run once more."""

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

RANK_VARIABLE: Final = "LORAFINETUNE_RANK"
TCP: Final = "tcp://"
GO: Final = b"go\n"
PR_SET_PDEATHSIG: Final = 1


class RankSpec(Model):
    """rank: among `world_size`. first_of_node: the first rank on this node. inputs: directory that all on the
    node share, with the inputs once the rank is told to go. rendezvous: by which the ranks find each other: a
    file, or `tcp://HOST:PORT` of the first rank where they are on several nodes. smaller: half of a step in
    one pass, for the memory did not do."""

    rank: Annotated[int, Field(ge=0)]
    world_size: Annotated[int, Field(ge=2)]
    first_of_node: Annotated[int, Field(ge=0)] = 0
    inputs: str
    rendezvous: str
    smaller: bool = False

    @classmethod
    def from_environment(cls) -> "RankSpec | None":
        """That of this process; None where it is no rank."""
        text = os.environ.get(RANK_VARIABLE)
        return cls.model_validate_json(text) if text else None

    @property
    def directory(self) -> Path:
        return Path(self.inputs)

    @property
    def is_on_one_node(self) -> bool:
        """Whether all ranks are on one node."""
        return not self.rendezvous.startswith(TCP)

    def die_with_parent(self) -> None:
        """From here on this process ends with the one that started it: a rank alone would hold its GPU."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def wait_for_inputs(self) -> None:
        """Returns when the inputs are there."""
        if sys.stdin.buffer.readline() != GO:
            raise StageError(Reason.RANK_LOST, "the process that started this rank is gone")
