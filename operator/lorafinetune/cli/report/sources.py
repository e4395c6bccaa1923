"""What the page is made from: the status of the run, and what the store keeps of it.

Another version may have written it, or a stranger: what is not known is left out, and what has the wrong
shape is refused.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import StageName
from lorafinetune.api.types import Count
from lorafinetune.cli.reading import status_of
from lorafinetune.cli.store import Where, open_store_of, place_of
from lorafinetune.contract.arguments import COMPARED, METRICS, Kind, place
from lorafinetune.contract.outcome import StageError
from lorafinetune.contract.rowlosses import Compared
from lorafinetune.core.steps import stage_status
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.manifest import Manifest, read_manifest

NO_STATUS: Final = (
    "Give the resource with its status: `kubectl get lft NAME -o yaml`, or a run's resource.yaml."
)
MAKERS: Final[Mapping[Kind, StageName]] = {"prepared": "prepare", "trainings": "train", "exports": "export"}
"""Kinds of outputs with the stages that make them, in their order."""

Number = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
Kept = TypeVar("Kept", bound=BaseModel)


class _Kept(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)


class Logged(BaseModel):
    """One row of a training's log, by the trainer's own names: an optimizer step, or an evaluation."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    step: Count
    loss: Number | None = None
    eval_loss: Number | None = None
    learning_rate: Number | None = None
    accuracy: Number | None = Field(None, alias="eval_rewards/accuracies")
    exported: bool = False
    """An evaluation of the result, measured apart: it is not compared with those on the way."""


class DatasetRows(_Kept):
    """One dataset. dropped: rows that were left out, by why."""

    source: str = ""
    formats: dict[str, str] = {}
    rows_read: Count = 0
    rows: Count = 0
    eval_rows: Count = 0
    repeated_rows: Count = 0
    dropped: dict[str, Count] = {}


class LengthBin(_Kept):
    """Rows of up to so many tokens; None: over the cutoff."""

    up_to: Count | None = None
    rows: Count = 0


class Overlap(_Kept):
    """Held-out rows that are trained on too. prompts: whose prompt is."""

    rows: Count = 0
    prompts: Count = 0


class Piece(_Kept):
    """A part of a row. learned: whether the model learns to write it."""

    text: str
    learned: bool


class DataReport(_Kept):
    """What prepare reported of the data."""

    objective: str = "sft"
    template: str = ""
    template_differences: dict[str, str] = {}
    datasets: tuple[DatasetRows, ...] = ()
    rows: Count = 0
    eval_rows: Count = 0
    dropped: Count = 0
    bad_rows: tuple[str, ...] = ()
    repeated_rows: Count = 0
    deduplicated: bool = False
    overlap: Overlap = Overlap()
    tokens: Count = 0
    learned_tokens: Count = 0
    cutoff_length: Count = 0
    truncated_rows: Count = 0
    answer_tokens: Count = 0
    lost_answer_tokens: Count = 0
    rows_by_length: tuple[LengthBin, ...] = ()
    warnings: tuple[str, ...] = ()
    samples: tuple[tuple[Piece, ...], ...] = ()


@dataclass(frozen=True)
class Sources:
    """One run. log: of its training; the last points of it while that is not in the store. data: None where
    the store has no data report. outputs: manifests of what it made, by the kind of output. compared: None
    where the store has no losses of single rows."""

    resource: LoRAFineTune
    log: tuple[Logged, ...]
    data: DataReport | None
    outputs: Mapping[Kind, Manifest]
    compared: Compared | None = None

    @property
    def is_trained(self) -> bool:
        """Whether the training has come to its end."""
        return "trainings" in self.outputs


def gather(resource: LoRAFineTune, where: Where) -> Sources:
    """Reads the store of a run. Raises StageError with what a person can mend."""
    if resource.status is None:
        name = resource.metadata.name
        raise StageError(Reason.CONFIG_INVALID, f"{name} has no status, so nothing is known of it", NO_STATUS)
    store = open_store_of(resource, where)
    outputs = dict(_outputs(resource, store))
    log, data = _log(resource, store, outputs), _data(resource, store, outputs)
    return Sources(resource, log, data, outputs, _compared(store, outputs))


def _outputs(resource: LoRAFineTune, store: Store) -> dict[Kind, Manifest]:
    """The manifests of what is complete, in the order in which it is made."""
    status = status_of(resource)
    keys = {kind: stage_status(status, stage).key for kind, stage in MAKERS.items()}
    found = {kind: read_manifest(store, place(kind, key)) for kind, key in keys.items() if key}
    return {kind: manifest for kind, manifest in found.items() if manifest}


def _log(resource: LoRAFineTune, store: Store, outputs: Mapping[Kind, Manifest]) -> tuple[Logged, ...]:
    if "trainings" not in outputs:
        training = status_of(resource).training
        points = training.recent if training else ()
        return tuple(Logged(step=point.step, loss=float(point.loss)) for point in points)
    where = place("trainings", outputs["trainings"].key)
    lines = (_content(store, where, outputs["trainings"], METRICS) or b"").splitlines()
    return tuple(
        _decoded(Logged, line, f"{store.uri}/{where}/{METRICS}:{n}") for n, line in enumerate(lines, 1)
    )


def _data(resource: LoRAFineTune, store: Store, outputs: Mapping[Kind, Manifest]) -> DataReport | None:
    dataset = status_of(resource).dataset
    if "prepared" not in outputs or dataset is None:
        return None
    where = place("prepared", outputs["prepared"].key)
    name = place_of(dataset.report, resource).removeprefix(f"{where}/")
    content = _content(store, where, outputs["prepared"], name)
    return None if content is None else _decoded(DataReport, content, f"{store.uri}/{where}/{name}")


def _compared(store: Store, outputs: Mapping[Kind, Manifest]) -> Compared | None:
    if "trainings" not in outputs:
        return None
    where = place("trainings", outputs["trainings"].key)
    content = _content(store, where, outputs["trainings"], COMPARED)
    return None if content is None else _decoded(Compared, content, f"{store.uri}/{where}/{COMPARED}")


def _content(store: Store, where: str, manifest: Manifest, name: str) -> bytes | None:
    """A file of an output; None where the output has none of that name. Raises StageError(ArtifactCorrupt)
    where it is not the file that the manifest lists."""
    listed = next((file for file in manifest.files if file.path == name), None)
    if listed is None:
        return None
    content = store.read(f"{where}/{name}", listed.size)
    if content is None or hashlib.sha256(content).hexdigest() != listed.sha256:
        what = "is not there any more" if content is None else "is not the file that its manifest lists"
        raise StageError(Reason.ARTIFACT_CORRUPT, f"{store.uri}/{where}/{name} {what}")
    return content


def _decoded(kind: type[Kept], text: bytes, uri: str) -> Kept:
    try:
        return kind.model_validate_json(text)
    except ValidationError as problem:
        first: Any = problem.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StageError(
            Reason.ARTIFACT_CORRUPT, f"{uri} can't be read: {f'{where}: ' if where else ''}{first['msg']}"
        ) from None
