"""Checkpoints in the store, so that a training goes on in a fresh directory, on another machine.

A checkpoint lies at `trainings/KEY/checkpoints/STEP/ATTEMPT/`, its manifest written last. It is what the
trainer itself saves at the end of a step: adapter, optimizer, scheduler, random number generators and
log. Those of torch are pickles; they come from our own manifest, verified by sha256, and are loaded
with `weights_only`, which runs no code.
"""

import logging
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import GpuSeconds
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.train.best_adapter import BestAdapter
from lorafinetune_stages.train.last_checkpoint import LastCheckpoint
from lorafinetune_stages.train.state_store import StateReader, StateWriter
from lorafinetune_stages.train.states import State
from lorafinetune_stages.train.uploads import Uploads

log = logging.getLogger(__name__)

RANDOM: Final = "rng_state.pth"
"""Where the trainer of a rank keeps its random number generators."""
FILES: Final = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "optimizer.pt",
    RANDOM,
    "scaler.pt",
    "scheduler.pt",
    "trainer_state.json",
)
"""What is kept of what the trainer saves: not the tokenizer, and not its own arguments, a pickle."""
OTHER_RANDOM: Final = re.compile(r"rng_state_([0-9]+)\.pth")
"""The same of the ranks after the first."""


@dataclass(frozen=True)
class FetchedCheckpoint:
    """A checkpoint that has been downloaded and verified. notes: what was saved beside it."""

    state: State
    directory: Path
    notes: Mapping[str, Any]

    @property
    def step(self) -> int:
        return self.state.step

    @property
    def cost(self) -> GpuSeconds:
        """Of the training until it was saved."""
        return GpuSeconds.decode(self.notes.get("gpuSeconds", {}))

    def fetched(self, kept: StateReader, root: Path) -> "FetchedCheckpoint":
        """The same on another node's disk, below `root`."""
        directory = root / self.directory.name
        if kept.fetch(self.state, directory) is None:
            raise StageError(Reason.RANK_LOST, f"the checkpoint of step {self.step} is not there any more")
        return replace(self, directory=directory)

    def seen_by(self, rank: int, root: Path) -> "FetchedCheckpoint":
        """The same with a rank's own random number generators. root: where the rank can make a directory.

        A rank that was not there when it was saved has none: what it drops is drawn anew."""
        if rank == 0:
            return self
        directory = root / self.directory.name
        directory.mkdir(parents=True)
        own = _random_of(rank)
        for path in self.directory.iterdir():
            if path.name in FILES and path.name != RANDOM:
                (directory / path.name).symlink_to(path)
        if (self.directory / own).is_file():
            (directory / RANDOM).symlink_to(self.directory / own)
        return replace(self, directory=directory)


class Checkpoints:
    """The checkpoints of one training, of which the newest `keep` are kept. best_adapter: where its best
    adapter is kept, too. last: that of this attempt."""

    def __init__(
        self,
        saved: StateWriter,
        keep: int | Literal["all"],
        best_adapter: BestAdapter | None,
        last: LastCheckpoint,
        uploads: Uploads,
    ) -> None:
        self.best_adapter = best_adapter
        self.last = last
        self.uploads = uploads
        self._saved = saved
        self._keep = keep
        self._sending: Future[None] | None = None

    def newest(self, root: Path) -> FetchedCheckpoint | None:
        """The newest checkpoint that is whole and ours, downloaded below `root`; None: begin anew.

        What is newer than it, or was never completed, is removed: the training writes it again.
        """
        for state in self._saved.states():
            directory = root / f"{state.attempt}" / f"checkpoint-{state.step}"
            notes = self._saved.fetch(state, directory)
            if notes is not None and self._restores_best(notes):
                log.info("going on from the checkpoint of step %d", state.step)
                return FetchedCheckpoint(state, directory, notes)
            self._saved.remove(state)
        self._restores_best({})
        return None

    def save(
        self,
        directory: Path,
        step: int,
        notes: Mapping[str, Any],
        rotates: bool,
        then: Callable[[State], None],
    ) -> None:
        """Begins to upload what the trainer saved in `directory` after `step`.

        It waits for the one before, and so leaves none out: two are on the disk at once, and no more.
        rotates: whether the oldest is removed then. then: called once it is complete. Raises what an earlier
        upload failed by.
        """
        if self._sending:
            self._sending.result()
        send = partial(self._send, directory, step, notes, rotates, then)
        self._sending = self.uploads.send(send)

    def _send(
        self,
        directory: Path,
        step: int,
        notes: Mapping[str, Any],
        rotates: bool,
        then: Callable[[State], None],
    ) -> None:
        """Raises StageError(Superseded), with nothing written or removed, where a newer attempt has begun."""
        state = self._saved.send(directory, step, notes)
        self.last.record(step)
        then(state)
        shutil.rmtree(directory)
        if rotates:
            self._rotate(step)
        if self.best_adapter:
            self.best_adapter.rotate()

    def settle(self, step: int) -> None:
        """Once no other follows `step`: removes what is not to be kept, also where an attempt was ended while
        it did."""
        self._rotate(step)
        if self.best_adapter:
            self.best_adapter.rotate()

    def _restores_best(self, notes: Mapping[str, Any]) -> bool:
        """Whether the best adapter is there of which a checkpoint speaks."""
        return self.best_adapter is None or self.best_adapter.restore(notes.get("best"))

    def _rotate(self, newest: int) -> None:
        """Of each step that of the newest attempt is kept. What has no manifest, or is newer than the one
        that was just saved, an older attempt left that was overtaken."""
        states = self._saved.states()
        complete = [state for state, is_complete in states.items() if is_complete and state.step <= newest]
        of_steps = list({state.step: state for state in sorted(complete)}.values())
        kept = of_steps if self._keep == "all" else of_steps[-self._keep :]
        for state in states:
            if state not in kept:
                self._saved.remove(state)


def add_random_states(directory: Path, states: Sequence[bytes]) -> None:
    """Puts the random number generators of the ranks after the first into a checkpoint. states: of all."""
    for rank, state in enumerate(states[1:], start=1):
        (directory / _random_of(rank)).write_bytes(state)


def _random_of(rank: int) -> str:
    return f"rng_state_{rank}.pth"


def is_kept(name: str) -> bool:
    """Whether a file is of a checkpoint."""
    return name in FILES or OTHER_RANDOM.fullmatch(name) is not None
