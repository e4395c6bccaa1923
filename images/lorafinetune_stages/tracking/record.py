"""What trackers are told of a run: a function of what the store keeps of it, and the same for all of them.

Whoever can write to the store can write this too, so names and texts are made harmless, and values that are
not numbers are left out.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from lorafinetune.api.artifacts import Artifacts
from lorafinetune.api.safetext import safe
from lorafinetune.api.sources import LOCAL
from lorafinetune.api.status import GpuSeconds
from lorafinetune.contract.keys import digest
from lorafinetune.contract.names import base_name
from lorafinetune.report.leaves import flat
from lorafinetune.report.sources import Logged, Run, Sources
from lorafinetune.report.verdict import Verdict, verdict

MAX_POINTS: Final = 2000
"""Of a curve: a longer one is told at every n-th of its points, and at its last."""
MAX_PARAMETERS: Final = 300
MAX_NAME: Final = 200
MAX_TEXT: Final = 500
"""Characters; MLflow before 2.8 takes no more of a parameter."""
PLACE: Final = re.compile(r"\[(\d+)\]")
STRANGE: Final = re.compile(r"[^A-Za-z0-9_. -]")
"""What not every tracker takes in a name; a slash would make folders of it."""
ID_DIGITS: Final = 32
PREFIX: Final = "lorafinetune"
CURVES: Final = {
    "train/loss": "loss",
    "train/learning_rate": "learning_rate",
    "train/grad_norm": "grad_norm",
    "train/epoch": "epoch",
    "train/tokens_per_second": "tokens_per_second",
    "eval/loss": "eval_loss",
    "eval/accuracy": "accuracy",
}
"""Names of the curves, with those of the log. A row of an evaluation has those below `eval` alone."""


@dataclass(frozen=True)
class StepValues:
    """Numbers of one optimizer step, by the names of their curves."""

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Record:
    """id: the same whenever the same training of the same resource is told. name: of the resource. ended:
    when the training was complete. results: numbers of the whole run. parameters: what it was made with.
    tags: what came of it, and where that is."""

    id: str
    name: str
    ended: datetime
    points: Sequence[StepValues] = ()
    results: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def last_step(self) -> int:
        return max((point.step for point in self.points), default=0)


def record(sources: Sources, storage: str, report: str | None) -> Record:
    """sources: of a run whose training is done. storage: URI of the store. report: address of the page about
    it."""
    run, trained, found = sources.run, sources.outputs["trainings"], verdict(sources)
    parameters = flat(trained.lineage)
    return Record(
        id=digest([storage, run.namespace, run.name, trained.key])[:ID_DIGITS],
        name=run.name,
        ended=datetime.fromisoformat(trained.created),
        points=tuple(_points(sources.log)),
        results=_results(found, run.status.gpu_seconds),
        parameters=dict([(_name(name), _text(parameters[name])) for name in parameters][:MAX_PARAMETERS]),
        tags=_tags(run, {"verdict": found.word, "training": trained.key, "report": report}),
    )


def _points(log: Sequence[Logged]) -> Iterator[StepValues]:
    """In the order of the steps; what a step trained and what was evaluated after it are one point. The
    evaluation of what is exported is measured in another way than these, and is no point of their curve."""
    trained = _thinned([row for row in log if row.eval_loss is None])
    evaluated = _thinned([row for row in log if row.eval_loss is not None and not row.exported])
    found: dict[int, dict[str, float]] = {}
    for row in (*trained, *evaluated):
        found.setdefault(row.step, {}).update(_values(row))
    yield from (StepValues(step, values) for step, values in sorted(found.items()) if values)


def _thinned(rows: Sequence[Logged]) -> Sequence[Logged]:
    every = math.ceil(len(rows) / MAX_POINTS) or 1
    return rows if every == 1 else [*rows[every - 1 :: every], rows[-1]]


def _values(row: Logged) -> Mapping[str, float]:
    is_evaluation = row.eval_loss is not None
    read = {
        name: getattr(row, at) for name, at in CURVES.items() if name.startswith("eval/") is is_evaluation
    }
    return _numbers(read)


def _results(found: Verdict, gpu_seconds: GpuSeconds | None) -> Mapping[str, float]:
    chance = found.interval
    return _numbers(
        {
            "result/loss": found.result.loss if found.result else None,
            "result/base_loss": found.base,
            "result/change": chance.change if chance else None,
            "result/change_low": chance.low if chance else None,
            "result/change_high": chance.high if chance else None,
            "result/held_out_rows": found.rows or None,
            "result/gpu_seconds": gpu_seconds.held if gpu_seconds else None,
        }
    )


def _tags(run: Run, more: Mapping[str, str | None]) -> Mapping[str, str]:
    """Texts that say what it was and where its outputs are; never a path of a machine."""
    model, dataset = run.status.model, run.status.dataset
    facts = {
        "namespace": run.namespace,
        "name": run.name,
        "objective": run.objective,
        "model": base_name(model) if model else None,
        "model_commit": model.revision if model else None,
        "dataset": dataset.digest if dataset else None,
        **dict(_places(run.status.artifacts or Artifacts())),
        **more,
    }
    told = ((name, fact) for name, fact in facts.items() if fact and not fact.startswith(LOCAL))
    return {f"{PREFIX}.{name}": _text(fact) for name, fact in told}


def _places(made: Artifacts) -> Iterator[tuple[str, str]]:
    for name, output in (("adapter", made.adapter), ("merged", made.merged)):
        if output:
            yield name, output.uri
    yield from ((f"published.{index}", one.uri) for index, one in enumerate(made.published))


def _numbers(values: Mapping[str, Any]) -> Mapping[str, float]:
    return {
        name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)
    }


def _name(text: str) -> str:
    """A name that every tracker takes."""
    return STRANGE.sub("_", PLACE.sub(r".\1", text))[:MAX_NAME].strip(". ") or "_"


def _text(value: Any) -> str:
    text = safe(str(value))
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
