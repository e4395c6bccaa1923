"""The store of a run as a command opens it: a directory here, or the S3 server that the run names."""

import os
from dataclasses import dataclass
from pathlib import Path

from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.sources import Connection
from lorafinetune.contract.arguments import CREDENTIAL_KEYS, STORE_DIRECTORY_VARIABLE, credential_variable
from lorafinetune.contract.outcome import StageError
from lorafinetune.local.secrets import SecretMissingError, Secrets
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.factory import open_store


@dataclass(frozen=True)
class StoreLocation:
    """directory: in place of every S3 server; None for the real ones. endpoint: replaces that of the store's
    connection; empty: as it is. secrets: directory of the Secrets."""

    directory: Path | None
    endpoint: str
    secrets: Path


def open_store_of(resource: LoRAFineTune, where: StoreLocation) -> Store:
    """Raises StageError with what a person can mend."""
    if where.directory:
        os.environ[STORE_DIRECTORY_VARIABLE] = str(where.directory.absolute())
    connection = _connection(resource, where.endpoint)
    if connection and not where.directory:
        _hand_over(connection, Secrets(where.secrets))
    return open_store(resource.spec.storage.uri, connection)


def place_of(uri: str, resource: LoRAFineTune) -> str:
    """Where an output lies below the run's store."""
    return uri.removeprefix(f"{resource.spec.storage.uri.rstrip('/')}/")


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
