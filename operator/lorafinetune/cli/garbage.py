"""What a store holds that no run refers to: decided from a listing and the runs' statuses alone.

A run that has not ended may still need what its next stages look for. Which outputs these are is known only
when the stages before them are done; until then, all outputs of their kind are kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import LoRAFineTuneStatus, StageName
from lorafinetune.cli.runs import has_ended, status_of
from lorafinetune.cli.store import place_of
from lorafinetune.contract.arguments import STAGES, Kind, place
from lorafinetune.contract.keys import model_place
from lorafinetune.core.steps import stage_status
from lorafinetune_stages.store import Entry
from lorafinetune_stages.store.manifest import MANIFEST

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
MAY_FIND: Final[Mapping[StageName, tuple[Kind, ...]]] = {
    "download": KINDS,
    "prepare": ("prepared", "evaluations", "trainings", "exports"),
    "train": ("evaluations", "exports"),
    "export": ("exports",),
}
"""Kinds of outputs that a run may still come to refer to, by the stage that it is at."""

Why = Literal["garbage", "referred to", "young", "may be found"]


@dataclass(frozen=True)
class Output:
    """One output in the store. size: bytes. modified: of its newest file, in seconds since 1970."""

    place: str
    size: int
    modified: int
    complete: bool

    @property
    def kind(self) -> str:
        return self.place.partition("/")[0]


def outputs(entries: Iterable[Entry]) -> list[Output]:
    """The outputs of a listing. What lies elsewhere in the store is none of ours."""
    found: dict[str, Output] = {}
    for entry in entries:
        kind, *rest = entry.key.split("/", 2)
        if kind in KINDS and len(rest) == 2:
            where = f"{kind}/{rest[0]}"
            old = found.get(where, Output(where, 0, 0, False))
            complete = old.complete or rest[1] == MANIFEST
            found[where] = Output(where, old.size + entry.size, max(old.modified, entry.modified), complete)
    return list(found.values())


def judged(found: Sequence[Output], runs: Sequence[LoRAFineTune], before: float) -> dict[Why, list[Output]]:
    """Every output by why it is kept, or not. before: what is younger than this moment is kept."""
    named = {where for run in runs for where in references(run)}
    kept = {kind for run in runs if not has_ended(run) for kind in MAY_FIND[_stage(status_of(run))]}
    sorted_out: dict[Why, list[Output]] = {"garbage": [], "referred to": [], "young": [], "may be found": []}
    for output in found:
        why: Why = "garbage"
        if output.place in named:
            why = "referred to"
        elif output.modified >= before:
            why = "young"
        elif output.kind in kept:
            why = "may be found"
        sorted_out[why].append(output)
    return sorted_out


def references(run: LoRAFineTune) -> set[str]:
    """Places of all outputs that a status speaks of. What a ConfigMap names is served, whatever became of the
    run since."""
    status = status_of(run)
    keys = {
        "prepared": stage_status(status, "prepare").key,
        "trainings": stage_status(status, "train").key,
        "exports": stage_status(status, "export").key,
    }
    named = {f"{kind}/{key}" for kind, key in keys.items() if key}
    named |= {place("datasets", key) for key in status.datasets}
    if status.model:
        named.add(model_place(status.model))
    handed_out = status.config_map.outputs if status.config_map else ()
    return named | {"/".join(place_of(uri, run).split("/")[:2]) for uri in handed_out}


def _stage(status: LoRAFineTuneStatus) -> StageName:
    """The first stage without a result."""
    return next((name for name in STAGES if stage_status(status, name).state != "Complete"), "export")
