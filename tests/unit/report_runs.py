"""Runs as a store keeps them, for tests of the page about a run."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.types import Model
from lorafinetune.cli.run import keep
from lorafinetune.contract.arguments import ANSWERS, COMPARED, METRICS, RESOURCE_FILE, place
from lorafinetune.contract.outcome import TrainResult
from lorafinetune.core.steps import stage_status
from lorafinetune.report.sources import Logged
from lorafinetune_stages.prepare.output import Prepared
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.manifest import ManifestFile, commit_manifest
from unit.world import World, status_of

STORE: Final = Path("lorafinetune-store")
REPORT: Final = "report.json"
TOKENS: Final = 10
Row = Mapping[str, Any]


def data_report(**changes: Any) -> dict[str, Any]:
    """What prepare writes about 90 rows, of which 60 more are held out."""
    return {
        "objective": "sft",
        "template": "glm4",
        "templateDifferences": {},
        "datasets": [
            {
                "source": "s3://data/rows.json",
                "formats": {"rows.json": "alpaca"},
                "rowsRead": 151,
                "rows": 90,
                "evalRows": 60,
                "repeatedRows": 0,
                "dropped": {"empty answer": 1},
            }
        ],
        "rows": 90,
        "evalRows": 60,
        "dropped": 1,
        "badRows": ["rows.json:7: output: the answer is empty"],
        "repeatedRows": 0,
        "deduplicated": True,
        "overlap": {"rows": 0, "prompts": 0},
        "tokens": 900,
        "learnedTokens": 600,
        "cutoffLength": 80,
        "truncatedRows": 0,
        "answerTokens": 600,
        "lostAnswerTokens": 0,
        "rowsByLength": [{"upTo": 40, "rows": 150}, {"upTo": 80, "rows": 0}, {"upTo": None, "rows": 0}],
        "padding": [],
        "warnings": [],
        "samples": [[{"text": "Who are you?", "learned": False}, {"text": "A model.", "learned": True}]],
    } | changes


def steps(count: int, loss: float = 2.0) -> list[Row]:
    """The log of that many optimizer steps."""
    return [
        {"step": n, "loss": loss / n, "learning_rate": 1e-4 / n, "tokens": n} for n in range(1, count + 1)
    ]


def evaluations(*losses: float, every: int = 10) -> list[Row]:
    """The log of evaluations, the first of them before step `every` is over."""
    return [{"step": every * n, "epoch": n, "eval_loss": loss} for n, loss in enumerate(losses, 1)]


def logged(log: Iterable[Row]) -> tuple[Logged, ...]:
    """As the page reads it."""
    return tuple(Logged.model_validate(row) for row in log)


def ended(spec: Mapping[str, Any] | None = None) -> LoRAFineTune:
    """A run that has come to its end, whose data report is where the store has it."""
    world = World({"export": {"merged": {}}} | dict(spec or {}))
    world.run_to_end()
    status = status_of(world.resource)
    assert status.dataset
    report = f"s3://bucket/runs/{place('prepared', key_of(world.resource, 'prepare'))}/{REPORT}"
    dataset = status.dataset.model_copy(update={"report": report})
    return world.resource.model_copy(update={"status": status.model_copy(update={"dataset": dataset})})


def key_of(run: LoRAFineTune, stage: Any) -> str:
    return stage_status(status_of(run), stage).key or ""


def held_out(change: float, noise: float = 0.0, rows: int = 60) -> dict[str, Any]:
    """Rows as a training leaves them. change: of the loss, by more in some rows than in others. noise: by
    which it is more and less in turn."""
    base = [20.0 + row for row in range(rows)]
    changes = (change * (1 + row % 3) / 2 + noise * (-1) ** row for row in range(rows))
    tuned = [nats + TOKENS * each for nats, each in zip(base, changes, strict=True)]
    return {"rows": rows, "tokens": [TOKENS] * rows, "base": base, "tuned": tuned}


def answers(*texts: str, **changes: Any) -> dict[str, Any]:
    """As a training leaves them. texts: each of them all that there is of one prompt."""
    said = [dict.fromkeys(("prompt", "expected", "base", "tuned"), text) for text in texts]
    return {"asked": len(said), "tokens": 128, "quantized": False, "answers": said} | changes


def put(
    folder: Path,
    run: LoRAFineTune,
    log: Iterable[Row],
    report: Any,
    lineage: Row,
    compared: Any = None,
    said: Any = None,
) -> Path:
    """Leaves the run in the folder as a local run does, with its store. Returns the file with its status.
    compared: the losses of single rows. said: the answers."""
    store = DirectoryStore(folder / STORE / "bucket" / "runs")
    lines = "".join(f"{json.dumps(row)}\n" for row in log)
    kept = {COMPARED: compared, ANSWERS: said}
    rows = {name: json.dumps(value) for name, value in kept.items() if value is not None}
    status = status_of(run)
    assert status.artifacts
    assert status.artifacts.adapter
    assert status.training
    assert status.dataset
    trained = TrainResult(
        key=key_of(run, "train"), adapter=status.artifacts.adapter, training=status.training, resumes=2
    )
    prepared = Prepared(template="glm4", dataset=status.dataset)
    _output(store, "trainings", key_of(run, "train"), {METRICS: lines} | rows, lineage, trained)
    _output(store, "prepared", key_of(run, "prepare"), {REPORT: json.dumps(report)}, {}, prepared)
    keep(run, folder / RESOURCE_FILE)
    return folder / RESOURCE_FILE


def _output(
    store: DirectoryStore, kind: Any, key: str, files: Mapping[str, str], lineage: Row, result: Model
) -> None:
    where, listed = place(kind, key), []
    for name, text in files.items():
        stored = store.put(f"{where}/{name}", [text.encode()])
        listed.append(ManifestFile(path=name, size=stored.size, sha256=stored.sha256))
    commit_manifest(store, where, kind, key, listed, lineage, result.encode())


@dataclass
class Shape(HTMLParser):
    """What a browser would make of a page: its tags, their attributes, and its text."""

    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def shape(page: str) -> Shape:
    found = Shape()
    found.feed(page)
    found.close()
    return found
