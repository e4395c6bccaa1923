"""The last lines of a run: where everything is, or what went wrong and what to do."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.sources import LOCAL, S3
from lorafinetune.api.status import LoRAFineTuneStatus
from lorafinetune.core.steps import stage_status


@dataclass(frozen=True)
class Environment:
    """What differs between a run here and one on a cluster.

    place: makes of a URI what a person looks for. stopped: says how a stopped run goes on.
    """

    place: Callable[[str], str]
    stopped: str = "stopped{at}; the same command goes on from there"


def summary(resource: LoRAFineTune, environment: Environment, log: str) -> list[str]:
    """What is said at the end. log: where the failed stage's is, or empty."""
    status = resource.status or LoRAFineTuneStatus()
    if failure := status.failure:
        lines = [
            f"{failure.stage or 'run'} failed: {failure.reason}: {failure.message}",
            f"hint: {failure.hint}",
        ]
        return [*lines, *([f"log: {log}"] if log else [])]
    if status.stage != "Complete":
        return [environment.stopped.format(at=_reached(status))]
    return [f"{name:<13}{environment.place(uri)}" for name, uri in _outputs(resource, status)]


def _reached(status: LoRAFineTuneStatus) -> str:
    """Where the run would go on, with a blank before it; empty where that is the beginning."""
    if status.artifacts and status.artifacts.adapter:
        return " after the training"
    return f" at step {status.checkpoint.step}" if status.checkpoint else ""


def _outputs(resource: LoRAFineTune, status: LoRAFineTuneStatus) -> list[tuple[str, str]]:
    training = f"{resource.spec.storage.uri}/trainings/{stage_status(status, 'train').key}"
    artifacts = status.artifacts
    outputs = []
    if artifacts and artifacts.adapter:
        outputs.append(("adapter", artifacts.adapter.uri))
    if artifacts and artifacts.merged:
        outputs.append(("merged model", artifacts.merged.uri))
        outputs += [("published", published.uri) for published in artifacts.published]
    outputs += [("loss curve", f"{training}/loss.png"), ("manifest", f"{training}/manifest.json")]
    if artifacts and artifacts.report:
        outputs.append(("report", artifacts.report))
    if status.dataset:
        outputs.append(("data report", status.dataset.report))
    return outputs


def places(store: Path | None) -> Callable[[str], str]:
    """Makes a function that turns a URI into the path where a person finds it in a local run."""
    root = store.absolute() if store else None

    def place(uri: str) -> str:
        if uri.startswith(LOCAL):
            return uri.removeprefix(LOCAL)
        return str(root / uri.removeprefix(S3)) if root and uri.startswith(S3) else uri

    return place
