"""A store, download's arguments and its stage, run in this process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from hubs.huggingface import HuggingFaceHub
from hubs.modelscope import ModelScopeHub
from hubs.repository import Hub
from lorafinetune.api.sources import BaseModelSource, Connection, SecretReference, Storage
from lorafinetune.contract.arguments import DatasetOrigin, DownloadArguments, place
from lorafinetune.contract.keys import source_key
from lorafinetune.contract.outcome import DownloadResult, StageError
from lorafinetune_stages.download import run
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.manifest import Manifest, read_manifest

MODEL = "hf://owner/model"
HUBS: Mapping[str, type[Hub]] = {"hf": HuggingFaceHub, "modelscope": ModelScopeHub}
"""The local hubs, by scheme."""


def hub(endpoint: str, secret: bool = False) -> Connection:
    """A connection named `hub`, whose token is in the variable CONNECTION_HUB_TOKEN."""
    return Connection(
        name="hub", endpoint=endpoint, secret_ref=SecretReference(name="token") if secret else None
    )


@dataclass
class Bench:
    """Runs downloads into one store. pauses: the seconds that were waited between attempts."""

    directory: Path
    connection: Connection | None = None
    pauses: list[float] = field(default_factory=list)
    destination: Store | None = None

    @property
    def store(self) -> Store:
        return self.destination or DirectoryStore(self.directory / "store")

    def run(self, model: str = MODEL, *datasets: str, revision: str | None = None) -> DownloadResult:
        return run(self.arguments(model, datasets, revision), self.context(), self.pauses.append)

    def refusal(self, model: str = MODEL, *datasets: str, revision: str | None = None) -> StageError:
        """The failure that the download ends with."""
        try:
            result = self.run(model, *datasets, revision=revision)
        except StageError as problem:
            return problem
        raise AssertionError(f"the download went through: {result}")

    def arguments(
        self, model: str = MODEL, datasets: Sequence[str] = (), revision: str | None = None
    ) -> DownloadArguments:
        name = self.connection.name if self.connection else None
        return DownloadArguments(
            storage=Storage(uri=f"file://{self.directory / 'store'}"),
            connections=(self.connection,) if self.connection else (),
            model=BaseModelSource(source=model, revision=revision, connection=name),
            datasets=tuple(DatasetOrigin(source=source, connection=name) for source in datasets),
        )

    def manifest(self, result: DownloadResult) -> Manifest:
        """The manifest of the model."""
        manifest = read_manifest(self.store, self.place(result))
        assert manifest
        return manifest

    def place(self, result: DownloadResult) -> str:
        return place("models", source_key(result.model.source, result.model.revision))

    def files(self, where: str) -> dict[str, bytes]:
        """What the store has at a place, but the manifest."""
        keys = [entry.key for entry in self.store.list(where)]
        found = {key.removeprefix(f"{where}/"): self.store.read(key) or b"" for key in keys}
        return {name: body for name, body in found.items() if name != "manifest.json"}

    def context(self) -> Context:
        scratch = self.directory / "scratch"
        scratch.mkdir(exist_ok=True)
        seconds = count(0.0, 1.0).__next__
        return Context(self.store, scratch, Reporter("download", self.directory / "progress.json", seconds))


def write(directory: Path, files: Mapping[str, bytes]) -> Path:
    """Makes these files, and says where."""
    for name, body in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return directory
