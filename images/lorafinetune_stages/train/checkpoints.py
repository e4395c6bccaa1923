"""Checkpoints in the store, so that a training goes on in a fresh directory, on another machine.

A checkpoint lies at `trainings/KEY/checkpoints/STEP/`, its manifest written last. It is what the
trainer itself saves at the end of a step: adapter, optimizer, scheduler, random number generators and
log. Those of torch are pickles; they come from our own manifest, verified by sha256, and are loaded
with `weights_only`, which runs no code.
"""

import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import ModelStatus
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.manifest import Manifest, commit_manifest, read_manifest, withdraw_manifest
from lorafinetune_stages.store.transfer import download_tree, upload_tree
from lorafinetune_stages.train.adapter import rename_base
from lorafinetune_stages.train.fence import Fence

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
class Checkpoint:
    """A checkpoint that has been downloaded and verified. notes: what was saved beside it."""

    step: int
    directory: Path
    notes: Mapping[str, Any]

    def seen_by(self, rank: int, root: Path) -> "Checkpoint":
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
    """The checkpoints of one training at `place`, whose key is `key`; the newest `keep` are kept."""

    def __init__(
        self,
        store: Store,
        place: str,
        key: str,
        model: ModelStatus,
        keep: int | Literal["all"],
        fence: Fence,
    ) -> None:
        self._store = store
        self._fence = fence
        self._place = f"{place}/checkpoints"
        self._key = key
        self._model = model
        self._keep = keep

    def newest(self, root: Path) -> Checkpoint | None:
        """The newest checkpoint that is whole and ours, downloaded below `root`; None: begin anew.

        What is newer than it, or was never completed, is removed: the training writes it again.
        """
        for step in sorted(self._steps(), reverse=True):
            if checkpoint := self._fetch(step, root):
                return checkpoint
            self._remove(step)
        return None

    def save(self, directory: Path, step: int, notes: Mapping[str, Any]) -> None:
        """Uploads what the trainer saved in `directory` after `step`, then removes the oldest.

        Raises StageError(Superseded), with nothing written or removed, where a newer attempt has begun.
        """
        self._fence.check()
        for path in directory.iterdir():
            if not _is_kept(path.name):
                path.unlink()
        rename_base(directory, self._model)
        where = f"{self._place}/{step}"
        files = upload_tree(self._store, directory, where)
        self._fence.check()
        commit_manifest(
            self._store,
            where,
            "checkpoint",
            self._key,
            files,
            self._fingerprint(step),
            {**notes, "attempt": self._fence.number},
        )
        shutil.rmtree(directory)
        self._rotate()

    def _steps(self) -> set[int]:
        """Steps of which there is anything in the store."""
        names = (
            entry.key.removeprefix(f"{self._place}/").split("/")[0] for entry in self._store.list(self._place)
        )
        return {int(name) for name in names if name.isascii() and name.isdecimal()}

    def _fetch(self, step: int, root: Path) -> Checkpoint | None:
        try:
            manifest = read_manifest(self._store, f"{self._place}/{step}")
            if manifest is None or not self._is_ours(step, manifest):
                return None
            directory = root / f"checkpoint-{step}"
            download_tree(self._store, f"{self._place}/{step}", manifest, directory)
        except StageError as problem:
            if problem.reason is not Reason.ARTIFACT_CORRUPT:
                raise
            log.warning("%s: %s; going back to an older one", Reason.CHECKPOINT_CORRUPT, problem.message)
            return None
        log.info("going on from the checkpoint of step %d", step)
        return Checkpoint(step, directory, manifest.result or {})

    def _is_ours(self, step: int, manifest: Manifest) -> bool:
        from_us = manifest.key == self._key and manifest.lineage == self._fingerprint(step)
        if from_us and all(_is_kept(file.path) for file in manifest.files):
            return True
        log.error(
            "%s: %s/%s/%d belongs to another training: it is removed",
            Reason.CHECKPOINT_CORRUPT,
            self._store.uri,
            self._place,
            step,
        )
        return False

    def _fingerprint(self, step: int) -> dict[str, Any]:
        """What a checkpoint must say of itself to be used."""
        return {"training": self._key, "model": self._model.digest, "step": step}

    def _rotate(self) -> None:
        if self._keep != "all":
            for step in sorted(self._steps(), reverse=True)[self._keep :]:
                self._remove(step)

    def _remove(self, step: int) -> None:
        withdraw_manifest(self._store, f"{self._place}/{step}")
        self._store.delete(f"{self._place}/{step}")


def add_random_states(directory: Path, states: Sequence[bytes]) -> None:
    """Puts the random number generators of the ranks after the first into a checkpoint. states: of all."""
    for rank, state in enumerate(states[1:], start=1):
        (directory / _random_of(rank)).write_bytes(state)


def _random_of(rank: int) -> str:
    return f"rng_state_{rank}.pth"


def _is_kept(name: str) -> bool:
    return name in FILES or OTHER_RANDOM.fullmatch(name) is not None


def is_due(every: int | Literal["epoch"], step: int, epoch: float) -> bool:
    """Whether a checkpoint is saved after this step. epoch: passes over the data so far."""
    return epoch.is_integer() if every == "epoch" else step % every == 0
