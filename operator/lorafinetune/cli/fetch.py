"""`lorafinetune fetch`: brings an output out of the store, every file checked against its manifest.

It reads where the output is from the status, so it takes what `kubectl get -o yaml` prints and what a local
run leaves behind.
"""

import os
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.spec import Connection
from lorafinetune.api.status import Artifact, Artifacts
from lorafinetune.cli.what import What
from lorafinetune.contract.arguments import CREDENTIAL_KEYS, STORE_DIRECTORY_VARIABLE, credential_variable
from lorafinetune.contract.outcome import StageError
from lorafinetune.local.secrets import SecretMissingError, Secrets
from lorafinetune_stages.store.manifest import Manifest, read_manifest
from lorafinetune_stages.store.opening import open_store
from lorafinetune_stages.store.transfer import download_tree

ADAPTER = "adapter"


def fetch(
    resource: LoRAFineTune, what: What, to: Path, store: Path | None, endpoint: str, secrets: Path
) -> None:
    """Downloads an output into a directory that must not exist; it appears whole or not at all.

    store: directory in place of every S3 server; None for the real ones. endpoint: replaces that of the
    store's connection; empty: as it is. Raises StageError with what a person can mend.
    """
    if to.exists():
        raise StageError(Reason.CONFIG_INVALID, f"{to} exists already", "Give another directory with --to.")
    artifact = _artifact(resource, what)
    if store:
        os.environ[STORE_DIRECTORY_VARIABLE] = str(store.absolute())
    connection = _connection(resource, endpoint)
    if connection and not store:
        _hand_over(connection, Secrets(secrets))
    uri = resource.spec.storage.uri
    opened = open_store(uri, connection)
    place = artifact.uri.removeprefix(f"{uri.rstrip('/')}/")
    if what is What.ADAPTER:
        place = place.removesuffix(f"/{ADAPTER}")
    manifest = read_manifest(opened, place)
    if manifest is None:
        raise StageError(Reason.ARTIFACT_CORRUPT, f"{artifact.uri} is not in the store any more")
    wanted = _part(manifest, f"{ADAPTER}/") if what is What.ADAPTER else manifest
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as partial, _bar() as bar:
        task = bar.add_task(what.value, total=sum(file.size for file in wanted.files))
        download_tree(opened, place, wanted, Path(partial), lambda count: bar.advance(task, count))
        found = Path(partial, ADAPTER) if what is What.ADAPTER else Path(partial)
        found.rename(to)
        Path(partial).mkdir(exist_ok=True)


def _artifact(resource: LoRAFineTune, what: What) -> Artifact:
    artifacts = (resource.status.artifacts if resource.status else None) or Artifacts()
    artifact = artifacts.merged if what is What.MERGED else artifacts.adapter
    if artifact is None:
        name = resource.metadata.name
        hint = "Give the resource with its status: `kubectl get lft NAME -o yaml`, or a run's resource.yaml."
        raise StageError(Reason.CONFIG_INVALID, f"the status of {name} tells of no {what.value} output", hint)
    return artifact


def _part(manifest: Manifest, prefix: str) -> Manifest:
    files = tuple(file for file in manifest.files if file.path.startswith(prefix))
    return manifest.model_copy(update={"files": files})


def _connection(resource: LoRAFineTune, endpoint: str) -> Connection | None:
    wanted = resource.spec.storage.connection
    connection = next((c for c in resource.spec.connections if c.name == wanted), None)
    return connection.model_copy(update={"endpoint": endpoint}) if connection and endpoint else connection


def _hand_over(connection: Connection, secrets: Secrets) -> None:
    """Gives the store its credentials as a stage gets them."""
    if connection.secret_ref is None:
        return
    for key, required in CREDENTIAL_KEYS.items():
        try:
            value = secrets.get(connection.secret_ref.name, key, optional=not required)
        except SecretMissingError as problem:
            hint = "Put the value there, or give --secrets DIR."
            raise StageError(Reason.SECRET_MISSING, str(problem), hint) from None
        if value is not None:
            os.environ[credential_variable(connection.name, key)] = value


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=Console(stderr=True))
