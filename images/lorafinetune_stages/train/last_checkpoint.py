"""How far an attempt at a training has come, for whoever ends it: the process that trains, the thread that
notices that it hangs, or the process that started it as a rank and may find it gone without a message."""

from pathlib import Path
from typing import Final

from lorafinetune.contract.outcome import StageError

NAME: Final = "saved"


class LastCheckpoint:
    """Step of the last checkpoint that the attempt left in the store. directory: all its ranks on this node
    share it; other nodes are told."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME

    def record(self, step: int) -> None:
        partial = self._path.with_suffix(".partial")
        partial.write_text(str(step))
        partial.replace(self._path)

    @property
    def step(self) -> int | None:
        return int(self._path.read_text()) if self._path.is_file() else None

    def annotate(self, error: StageError) -> StageError:
        """The same failure, which tells of it now."""
        error.checkpoint = self.step
        return error
