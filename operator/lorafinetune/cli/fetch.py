"""`lorafinetune fetch`: brings an output out of the store, every file checked against its manifest.

It reads where the output is, and the digest of all its files, from the status, so it takes what `kubectl get
-o yaml` prints and what a local run leaves behind. A manifest proves that an output is whole, and not that it
is still what this run made.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from lorafinetune.api.artifacts import Artifact, Artifacts
from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.cli import INTERRUPTED
from lorafinetune.cli.choices import FETCHED, OutputKind
from lorafinetune.cli.errors import CommandError
from lorafinetune.cli.output import Format, emit, output, structured
from lorafinetune.cli.runs import has_none
from lorafinetune.cli.store import StoreLocation, open_store_of, place_of
from lorafinetune.contract.arguments import ADAPTER
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.manifest import Manifest, ManifestFile, files_digest, read_manifest
from lorafinetune_stages.store.transfer import download_tree

REPLACED: Final = (
    "It was replaced or made anew. Take the status of the run that made it, or delete this run and apply it "
    "again: it finds what is there."
)


@dataclass(frozen=True)
class Fetched:
    """An output of a run as it is here now. uri: where it came from. files: as they were checked."""

    namespace: str
    run: str
    what: OutputKind
    uri: str
    directory: Path
    files: tuple[ManifestFile, ...]

    @property
    def told(self) -> Mapping[str, object]:
        """For a program. The digest is that of the status."""
        return {
            "namespace": self.namespace,
            "run": self.run,
            "what": self.what.value,
            "uri": self.uri,
            "directory": str(self.directory),
            "digest": files_digest(self.files),
            "bytes": sum(file.size for file in self.files),
            "files": [{"path": file.path, "bytes": file.size, "sha256": file.sha256} for file in self.files],
        }


def fetch(resource: LoRAFineTune, what: OutputKind, to: Path, where: StoreLocation) -> Fetched:
    """Downloads an output into a directory that must not exist; it appears whole or not at all.

    Raises StageError with what a person can mend, and CommandError where a person interrupts it.
    """
    if to.exists():
        raise StageError(Reason.CONFIG_INVALID, f"{to} exists already", "Give another directory with --to.")
    artifact = _artifact(resource, what)
    opened = open_store_of(resource, where)
    folder = ADAPTER if what is OutputKind.ADAPTER else ""
    place = place_of(artifact.uri, resource).removesuffix(f"/{folder}")
    manifest = read_manifest(opened, place)
    if manifest is None:
        raise StageError(Reason.ARTIFACT_CORRUPT, f"{artifact.uri} is not in the store any more")
    _refuse_another(artifact, files_digest(_inside(manifest, folder)), resource)
    try:
        files = bring(opened, place, manifest, to, folder)
    except KeyboardInterrupt:
        told = f"interrupted: nothing of it is kept in {to.parent}. The same command fetches all of it."
        raise CommandError(told, INTERRUPTED) from None
    return Fetched(resource.metadata.namespace, resource.metadata.name, what, artifact.uri, to, files)


def tell(fetched: Fetched, form: Format) -> None:
    """Says what is where."""
    if form.is_data:
        emit(structured(fetched.told, form))
    else:
        output.print(f"The {FETCHED[fetched.what]} is in {fetched.directory}/.")


def bring(
    store: Store, place: str, manifest: Manifest, to: Path, folder: str = ""
) -> tuple[ManifestFile, ...]:
    """Downloads an output, or one folder of it, as the directory `to`; its files, each checked. Raises
    StageError."""
    wanted = _part(manifest, folder)
    if not wanted.files:
        raise StageError(Reason.ARTIFACT_CORRUPT, f"the manifest of {store.uri}/{place} lists no {folder}")
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as partial, _bar() as bar:
        task = bar.add_task(folder or manifest.kind, total=sum(file.size for file in wanted.files))
        download_tree(store, place, wanted, Path(partial), lambda count: bar.advance(task, count))
        Path(partial, folder).rename(to)
        Path(partial).mkdir(exist_ok=True)
    return _inside(manifest, folder)


def _artifact(resource: LoRAFineTune, what: OutputKind) -> Artifact:
    artifacts = (resource.status.artifacts if resource.status else None) or Artifacts()
    artifact = artifacts.merged if what is OutputKind.MERGED else artifacts.adapter
    if artifact is None:
        raise has_none(resource, f"{what.value} output")
    return artifact


def _refuse_another(artifact: Artifact, found: str, resource: LoRAFineTune) -> None:
    """What another run made in its place may be whole, and is another model."""
    if found != artifact.digest:
        name = resource.metadata.name
        told = f"its digest is {found}, and the status of {name} tells of {artifact.digest}"
        raise CommandError(
            f"{Reason.ARTIFACT_CORRUPT}: {artifact.uri} is not what {name} made: {told}. {REPLACED}"
        )


def _part(manifest: Manifest, folder: str) -> Manifest:
    """A folder of an output with the paths of the output; the whole where none is named."""
    files = tuple(file for file in manifest.files if not folder or file.path.startswith(f"{folder}/"))
    return manifest.model_copy(update={"files": files})


def _inside(manifest: Manifest, folder: str) -> tuple[ManifestFile, ...]:
    """The files of a folder with their paths inside it, as its digest is of them."""
    files = _part(manifest, folder).files
    return tuple(each.model_copy(update={"path": each.path.removeprefix(f"{folder}/")}) for each in files)


def _bar() -> Progress:
    """For a person alone: without a terminal nothing stands beside what went wrong."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal)
