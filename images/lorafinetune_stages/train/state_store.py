"""What a training saves of itself after some of its steps, so that another machine has it.

A state lies at `place`/STEP/ATTEMPT/, its manifest written last. When it is fetched, it is verified by
sha256, and must say that it belongs to this training.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import ModelStatus
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.manifest import Manifest, commit_manifest, read_manifest_of, withdraw_manifest
from lorafinetune_stages.store.transfer import download_tree, upload_tree
from lorafinetune_stages.train.adapter import rename_base
from lorafinetune_stages.train.fence import Fence
from lorafinetune_stages.train.states import State, states_at

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StateReader:
    """All states of one kind of the training whose key is `key`, for whoever reads them. is_kept: whether a
    file of that name is of a state."""

    store: Store
    place: str
    kind: str
    key: str
    model: ModelStatus
    is_kept: Callable[[str], bool]

    def states(self) -> dict[State, bool]:
        """Those of which there is anything in the store, from the last one on; each with whether it has a
        manifest."""
        return states_at(self.store, self.place)

    def fetch(self, state: State, directory: Path) -> Mapping[str, Any] | None:
        """Downloads a state, and returns its notes; None where it is not whole and ours, which is logged."""
        try:
            manifest = read_manifest_of(self.store, self._at(state), self.key)
            if manifest is None or not self._is_ours(state, manifest):
                return None
            download_tree(self.store, self._at(state), manifest, directory)
        except StageError as problem:
            if problem.reason is not Reason.ARTIFACT_CORRUPT:
                raise
            log.warning("%s: %s; going back to an older one", Reason.CHECKPOINT_CORRUPT, problem.message)
            return None
        return manifest.result or {}

    def _at(self, state: State) -> str:
        return f"{self.place}/{state.path}"

    def _is_ours(self, state: State, manifest: Manifest) -> bool:
        from_us = manifest.lineage == self._fingerprint(state.step)
        if from_us and all(self.is_kept(file.path) for file in manifest.files):
            return True
        log.error(
            "%s: %s/%s belongs to another training: it is removed",
            Reason.CHECKPOINT_CORRUPT,
            self.store.uri,
            self._at(state),
        )
        return False

    def _fingerprint(self, step: int) -> dict[str, Any]:
        """What a state must say of itself to be used."""
        return {"training": self.key, "model": self.model.digest, "step": step}


@dataclass(frozen=True)
class StateWriter(StateReader):
    """The same for the attempt that writes them."""

    fence: Fence

    def send(self, directory: Path, step: int, notes: Mapping[str, Any]) -> State:
        """Uploads what is to be kept of a directory, in which an adapter is; the rest is removed from it.

        Raises StageError(Superseded), with nothing written to the store, where a newer attempt has begun.
        """
        state = State(step, self.fence.number)
        where = self._at(state)
        with self.fence.guard():
            for path in directory.iterdir():
                if not self.is_kept(path.name):
                    path.unlink()
            rename_base(directory, self.model)
            files = upload_tree(self.store, directory, where)
        told = {**notes, "attempt": self.fence.number}
        commit_manifest(self.store, where, self.kind, self.key, files, self._fingerprint(step), told)
        return state

    def remove(self, state: State) -> None:
        """Raises StageError(Superseded), with nothing removed, where a newer attempt has begun: so of what a
        newer one wrote nothing is ever removed, as a state is seen no sooner than its attempt."""
        self.fence.check()
        withdraw_manifest(self.store, self._at(state))
        for entry in list(self.store.list(self._at(state))):
            if state.attempt or "/" not in entry.key.removeprefix(f"{self._at(state)}/"):
                self.store.delete(entry.key)
