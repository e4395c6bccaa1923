"""What each stage finds in its bucket, and what it is told: a tiny model, ten rows, and real programs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hubs.huggingface import HuggingFaceHub
from hubs.repository import Repository, model, safetensors
from lorafinetune.api.exports import Export
from lorafinetune.api.sources import BaseModelSource, Connection, SecretReference, Storage
from lorafinetune.contract.arguments import (
    DatasetOrigin,
    DownloadArguments,
    ExportArguments,
    StageArguments,
)
from lorafinetune.contract.keys import digest
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.manifest import ManifestFile, commit_manifest
from stages.peer import tiny_glm
from stages.prepare_builders import Bench, alpaca, json_lines
from stages.train_builders import partly_known, world

PREFIX: Final = "runs"
PUBLISHED: Final = "published"
"""Where an export is published, below PREFIX: what is there is looked at as all outputs are."""
OWN_BUCKET: Final = "bucket-of-the-run"
"""Stands in arguments for the bucket of a run."""
IN_PARTS: Final = 2_300_000
"""Numbers of four bytes: more than one part of an upload."""
ROWS: Final = [alpaca(f"question {number}", f"answer {number}") for number in range(10)]


@dataclass(frozen=True)
class Seed:
    """What a stage begins with. store: what is in its bucket."""

    stage: str
    arguments: StageArguments
    store: Store | None = None

    def told(self, bucket: str, endpoint: str) -> dict[str, Any]:
        """The arguments of a run in a bucket, as the operator encodes them."""
        secret = SecretReference(name="keys")
        store = Connection(name="store", endpoint=endpoint, secret_ref=secret)
        changes = {
            "storage": Storage(uri=f"s3://{OWN_BUCKET}/{PREFIX}", connection="store"),
            "connections": (*self.arguments.connections, store),
        }
        encoded = json.dumps(self.arguments.model_copy(update=changes).encode())
        told: dict[str, Any] = json.loads(encoded.replace(OWN_BUCKET, bucket))
        return told


@contextmanager
def download(_: Path) -> Iterator[Seed]:
    """A model with a file that is uploaded in parts, and a dataset."""
    repositories = {
        "models/owner/model": Repository(model(model__safetensors=safetensors(weight=IN_PARTS))),
        "datasets/owner/data": Repository({"rows.jsonl": json_lines(ROWS)}),
    }
    with HuggingFaceHub(repositories) as hub:
        connection = Connection(name="hub", endpoint=hub.url)
        yield Seed(
            "download",
            DownloadArguments(
                storage=Storage(uri="s3://none"),
                connections=(connection,),
                model=BaseModelSource(source="hf://owner/model", connection="hub"),
                datasets=(DatasetOrigin(source="hf://owner/data", connection="hub"),),
            ),
        )


@contextmanager
def prepare(folder: Path) -> Iterator[Seed]:
    texts = [text for row in ROWS for text in row.values()]
    bench = Bench(folder / "bench", tiny_glm(texts, folder)).add(json_lines(ROWS))
    yield Seed("prepare", bench.arguments("glm4", cutoff_length=64, batch_size=2), bench.store)


@contextmanager
def train(folder: Path) -> Iterator[Seed]:
    """Six steps, of which the second evaluation is the best, and checkpoints of which one stays: so there is
    a best adapter that is not the last, and both a checkpoint and an adapter that was best are deleted."""
    made = world(
        folder,
        held_out=partly_known(),
        epochs=None,
        maxSteps=6,
        learningRate="5e-2",
        scheduler="constant",
        evaluation={"fraction": "0.2", "everySteps": 2},
        checkpoint={"every": 2, "keep": 1, "select": "best"},
    )
    yield Seed("train", made.arguments, made.store)


@contextmanager
def export(folder: Path) -> Iterator[Seed]:
    """A merge that is published in place of an earlier model, which has a file more."""
    made = world(folder, epochs=None, maxSteps=1)
    made.train()
    _publish_another(made.store)
    target = {"to": f"s3://{OWN_BUCKET}/{PREFIX}/{PUBLISHED}", "connection": "store"}
    arguments = ExportArguments(
        storage=made.arguments.storage,
        model=made.arguments.model,
        trained=made.arguments.key,
        export=Export.decode({"merged": {}, "publish": [target]}),
    )
    yield Seed("export", arguments, made.store)


def _publish_another(store: Store) -> None:
    path = "model-00001-of-00002.safetensors"
    stored = store.put(f"{PUBLISHED}/{path}", [safetensors(weight=10)])
    file = ManifestFile(path=path, size=stored.size, sha256=stored.sha256)
    commit_manifest(store, PUBLISHED, "exports", digest("another"), [file], {}, None)


SEEDS: Final = {"download": download, "prepare": prepare, "train": train, "export": export}
