"""Reads what the store keeps of a run, for the page about it. Anything of the wrong shape is refused."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from lorafinetune.api.problem import first_fault
from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import StageName
from lorafinetune.contract.answers import Answers
from lorafinetune.contract.arguments import ANSWERS, COMPARED, METRICS, Kind, place
from lorafinetune.contract.outcome import StageError
from lorafinetune.contract.rowlosses import Compared
from lorafinetune.report.sources import DataReport, Logged, Output, Run, Sources
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.manifest import Manifest, read_manifest

MAKERS: Final[Mapping[Kind, StageName]] = {"prepared": "prepare", "trainings": "train", "exports": "export"}
"""Kinds of outputs with the stages that make them, in their order."""

Shape = TypeVar("Shape", bound=BaseModel)


def gather(run: Run, store: Store) -> Sources:
    """Raises StageError(ArtifactCorrupt) for what is not what its manifest lists, or can't be read."""
    kept = _RunOutputs(store, _manifests(run, store))
    outputs = {
        kind: Output(made.key, made.digest, made.created, made.lineage)
        for kind, made in kept.manifests.items()
    }
    dataset = run.status.dataset
    name = dataset.report.rpartition("/")[2] if dataset else ""
    data = kept.read("prepared", name, DataReport) if name else None
    compared = kept.read("trainings", COMPARED, Compared)
    answers = kept.read("trainings", ANSWERS, Answers)
    return Sources(run, _log(run, kept), data, outputs, compared, answers)


def _manifests(run: Run, store: Store) -> dict[Kind, Manifest]:
    """Of what is complete, in the order in which it is made."""
    keys = {stage.name: stage.key for stage in run.status.stages}
    named = {kind: key for kind, stage in MAKERS.items() if (key := keys.get(stage))}
    found = {kind: read_manifest(store, place(kind, key)) for kind, key in named.items()}
    return {kind: manifest for kind, manifest in found.items() if manifest}


@dataclass(frozen=True)
class _RunOutputs:
    """The files of a run's outputs."""

    store: Store
    manifests: Mapping[Kind, Manifest]

    def read(self, kind: Kind, name: str, shape: type[Shape]) -> Shape | None:
        content = self.content(kind, name)
        return None if content is None else self.decoded(shape, content, kind, name)

    def content(self, kind: Kind, name: str) -> bytes | None:
        """None where the output is not there, or has no file of that name."""
        files = self.manifests[kind].files if kind in self.manifests else ()
        listed = next((file for file in files if file.path == name), None)
        if listed is None:
            return None
        content = self.store.read(f"{self._at(kind)}/{name}", listed.size)
        if content is None or hashlib.sha256(content).hexdigest() != listed.sha256:
            what = "is not there any more" if content is None else "is not the file that its manifest lists"
            raise self._corrupt(kind, name, what)
        return content

    def decoded(self, shape: type[Shape], text: bytes, kind: Kind, name: str) -> Shape:
        try:
            return shape.model_validate_json(text)
        except ValidationError as problem:
            what = ": ".join(filter(None, ("can't be read", *first_fault(problem))))
            raise self._corrupt(kind, name, what) from None

    def _corrupt(self, kind: Kind, name: str, what: str) -> StageError:
        return StageError(Reason.ARTIFACT_CORRUPT, f"{self.store.uri}/{self._at(kind)}/{name} {what}")

    def _at(self, kind: Kind) -> str:
        return place(kind, self.manifests[kind].key)


def _log(run: Run, kept: _RunOutputs) -> tuple[Logged, ...]:
    """Of the training; the last points of it where that has not ended."""
    if "trainings" not in kept.manifests:
        training = run.status.training
        points = training.recent if training else ()
        return tuple(Logged(step=point.step, loss=float(point.loss)) for point in points)
    lines = (kept.content("trainings", METRICS) or b"").splitlines()
    return tuple(kept.decoded(Logged, line, "trainings", f"{METRICS}:{n}") for n, line in enumerate(lines, 1))
