"""Which adapter of a training is merged: its result, or that of a checkpoint that was kept."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lorafinetune.api.artifacts import Artifact
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import ADAPTER, CHECKPOINTS, place
from lorafinetune.contract.outcome import StageError, TrainResult
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.manifest import Manifest, ManifestFile, files_digest, read_manifest_of
from lorafinetune_stages.store.transfer import download_tree
from lorafinetune_stages.train.adapter import CONFIG, WEIGHTS
from lorafinetune_stages.train.states import State, states_at

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelectedAdapter:
    """An adapter. place: where its files lie. manifest: of these alone, by their paths there. folder: the one
    in which they are. result: the training's result, with what is said there of the adapter. step: of the
    checkpoint, if it is of one."""

    place: str
    manifest: Manifest
    folder: str
    result: TrainResult
    step: int | None = None

    def fetch(self, store: Store, scratch: Path) -> Path:
        """Downloads it. Its directory. Raises StageError(ArtifactCorrupt) where it is not the manifest's."""
        root = scratch / "chosen"
        download_tree(store, self.place, self.manifest, root)
        return root / self.folder


def choose(store: Store, trained: Manifest, step: int | None) -> SelectedAdapter:
    """trained: manifest of the training. step: of the checkpoint that is wanted; None: the result.

    Raises StageError(ConfigInvalid) where there is no whole checkpoint of that step, with those that are.
    """
    where, result = place("trainings", trained.key), TrainResult.decode(trained.result or {})
    if step is None:
        own = tuple(file for file in trained.files if file.path.startswith(f"{ADAPTER}/"))
        return SelectedAdapter(where, trained.model_copy(update={"files": own}), ADAPTER, result)
    found = next(_checkpoints(store, trained, step), None)
    if found is None:
        steps = sorted({state.step for state, _ in _checkpoints(store, trained)})
        there = ", ".join(map(str, steps)) or "none at all"
        raise StageError(
            Reason.CONFIG_INVALID,
            f"export.merged.checkpoint: {step}: the training has kept no checkpoint of that step; "
            f"there are those of the steps: {there}",
            "Set `spec.export.merged.checkpoint` to one of these, or leave it out for the training's result.",
        )
    state, manifest = found
    own = tuple(file for file in manifest.files if file.path in (CONFIG, WEIGHTS))
    at = _at(trained, state)
    told = _of_step(result, own, f"{store.uri}/{at}", step)
    return SelectedAdapter(at, manifest.model_copy(update={"files": own}), "", told, step)


def _of_step(result: TrainResult, files: tuple[ManifestFile, ...], uri: str, step: int) -> TrainResult:
    """What the training would have told of a checkpoint."""
    adapter = Artifact(uri=uri, digest=files_digest(files), bytes=sum(file.size for file in files))
    training = result.training.model_copy(update={"step": step})
    return result.model_copy(update={"adapter": adapter, "training": training})


def _checkpoints(
    store: Store, trained: Manifest, step: int | None = None
) -> Iterator[tuple[State, Manifest]]:
    """Those that are whole and of this training, of one step or of all; that of the newest attempt first."""
    for state in states_at(store, f"{place('trainings', trained.key)}/{CHECKPOINTS}"):
        found = _checkpoint(store, trained, state) if step in (None, state.step) else None
        if found and found.lineage.get("step") == state.step:
            yield state, found


def _checkpoint(store: Store, trained: Manifest, state: State) -> Manifest | None:
    try:
        return read_manifest_of(store, _at(trained, state), trained.key)
    except StageError as problem:
        if problem.reason is not Reason.ARTIFACT_CORRUPT:
            raise
        log.warning("%s: %s", Reason.CHECKPOINT_CORRUPT, problem.message)
        return None


def _at(trained: Manifest, state: State) -> str:
    return f"{place('trainings', trained.key)}/{CHECKPOINTS}/{state.path}"
