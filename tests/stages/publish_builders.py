"""A store with a finished export, so that the stage has nothing to do but publish; and hubs to publish to."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from builders import model, sha
from hubs.huggingface_writing import WritableHuggingFaceHub
from hubs.modelscope_writing import WritableModelScopeHub
from hubs.repository import Repository, safetensors
from hubs.writing import Storage
from lorafinetune.api.exports import Export
from lorafinetune.api.sources import Connection, SecretReference
from lorafinetune.api.sources import Storage as StorageSpec
from lorafinetune.contract import keys
from lorafinetune.contract.arguments import ExportArguments, place
from lorafinetune.contract.outcome import ExportResult, Progress, StageError
from lorafinetune_stages import export
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.manifest import ManifestFile, commit_manifest, read_manifest

Hub = WritableHuggingFaceHub | WritableModelScopeHub

TOKENS = {"hf": "hf_good", "modelscope": "ms-good"}
TOKEN_VARIABLE = "CONNECTION_HUB_TOKEN"
COMMITS = {"hf": "/commit/main", "modelscope": "/commit/master"}
CREATIONS = {"hf": "/api/repos/create", "modelscope": "/api/v1/models"}
CARD = b"---\nlicense: mit\n---\n# A model"
TRAINED = sha("training")
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"
FILES: Mapping[str, bytes] = {
    "README.md": CARD,
    "LICENSE": b"MIT License",
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b'{"vocab": ' + b"[0]" * 40_000 + b"}",
    SHARDS[0]: safetensors(first=30_000),
    SHARDS[1]: safetensors(second=20_000),
    INDEX: json.dumps({"weight_map": dict(zip("ab", SHARDS, strict=True))}).encode(),
}


@dataclass
class Site:
    """A hub, the host that takes its large files, and a store with an export. pauses: seconds waited."""

    scheme: str
    hub: Hub
    storage: Storage
    root: Path
    pauses: list[float] = field(default_factory=list)
    destination: Store | None = None

    @property
    def target(self) -> str:
        return f"{self.scheme}://team/tuned"

    @property
    def host(self) -> str:
        return self.hub.url.removeprefix("http://")

    @property
    def store(self) -> Store:
        return self.destination or DirectoryStore(self.root / "store")

    def connection(self, secret: bool = True) -> Connection:
        reference = SecretReference(name="token") if secret else None
        return Connection(name="hub", endpoint=self.hub.url, secret_ref=reference)

    def arguments(self, secret: bool = True, **target: Any) -> ExportArguments:
        """target: fields of the publish target, by their names on the wire."""
        wanted = {"to": self.target, "connection": "hub", **target}
        return ExportArguments(
            storage=StorageSpec(uri=f"file://{self.root / 'store'}"),
            connections=(self.connection(secret),),
            model=model(),
            trained=TRAINED,
            export=Export.decode({"merged": {}, "publish": [wanted]}),
        )

    def put(self, arguments: ExportArguments, files: Mapping[str, bytes] = FILES) -> str:
        """Makes the export that belongs to the arguments, of these files. Where it is."""
        if read_manifest(self.store, place("trainings", TRAINED)) is None:
            commit_manifest(self.store, place("trainings", TRAINED), "trainings", TRAINED, [], {}, None)
        reads = {"trained": TRAINED, "model": arguments.model.digest}
        key = keys.key("export", {"export": arguments.export.encode()}, reads)
        where = place("exports", key)
        self.store.delete(where)
        written = {name: self.store.put(f"{where}/{name}", [body]) for name, body in files.items()}
        listed = [ManifestFile(path=n, size=s.size, sha256=s.sha256) for n, s in written.items()]
        commit_manifest(self.store, where, "exports", key, listed, {}, None)
        return where

    def publish(self, files: Mapping[str, bytes] = FILES, secret: bool = True, **target: Any) -> ExportResult:
        """Runs the stage on a finished export of these files."""
        arguments = self.arguments(secret, **target)
        self.put(arguments, files)
        return self.run(arguments)

    def run(self, arguments: ExportArguments) -> ExportResult:
        scratch = self.root / "scratch"
        scratch.mkdir(exist_ok=True)
        seconds = count(0.0, 1.0).__next__
        context = Context(self.store, scratch, Reporter("export", self.root / "progress.json", seconds))
        return export.run(arguments, context, self.pauses.append)

    def refusal(self, files: Mapping[str, bytes] = FILES, **target: Any) -> StageError:
        """The failure that publishing ends with."""
        try:
            result = self.publish(files, **target)
        except StageError as problem:
            return problem
        raise AssertionError(f"it was published: {result}")

    @property
    def repository(self) -> Repository:
        return self.hub.repositories["models/team/tuned"]

    def files(self) -> dict[str, bytes]:
        """What the repository holds, but what the hub itself put there."""
        own = {".gitattributes", "configuration.json"}
        return {path: body for path, body in self.repository.files.items() if path not in own}

    @property
    def commits(self) -> list[str]:
        return self.hub.books.commits.get("models/team/tuned", [])

    def sent(self) -> list[str]:
        """Names of the large files that were sent to the other host, in order."""
        return sorted(r.path.rpartition("/")[2] for r in self.storage.requests if r.method == "PUT")

    def progress(self) -> Progress:
        return Progress.model_validate_json((self.root / "progress.json").read_text())


@contextmanager
def connected(scheme: str, root: Path) -> Iterator[Site]:
    kinds: dict[str, type[Hub]] = {"hf": WritableHuggingFaceHub, "modelscope": WritableModelScopeHub}
    with Storage() as storage, kinds[scheme](storage) as hub:
        yield Site(scheme, hub, storage, root)
