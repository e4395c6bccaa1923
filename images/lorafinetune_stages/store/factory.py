"""Which store a URI means."""

import os
from pathlib import Path

from lorafinetune.api.reasons import Reason
from lorafinetune.api.sources import Connection
from lorafinetune.contract.arguments import STORE_DIRECTORY_VARIABLE
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.naming import key_fault, quoted


def open_store(uri: str, connection: Connection | None) -> Store:
    """The store at `file://PATH` or `s3://BUCKET[/PREFIX]`. Nothing is read or written yet.

    In local runs a directory stands in for every S3 server. Raises StageError(ConfigInvalid) for
    another URI, and StageError(CredentialsInvalid) where the connection's Secret lacks a key.
    """
    scheme, _, path = uri.partition("://")
    if scheme == "file" and path:
        return DirectoryStore(Path(path), uri)
    if scheme != "s3":
        raise StageError(Reason.CONFIG_INVALID, f"{quoted(uri)} is no URI of a store: s3://BUCKET/PREFIX is")
    bucket, prefix = _split(uri, path)
    if directory := os.environ.get(STORE_DIRECTORY_VARIABLE):
        stand_in = Path(directory) / bucket
        return DirectoryStore(stand_in / prefix, uri.rstrip("/"), stand_in)
    from lorafinetune_stages.store.s3 import S3Store  # boto3 takes most of a second to import

    return S3Store(bucket, prefix, connection)


def _split(uri: str, path: str) -> tuple[str, str]:
    bucket, _, prefix = path.rstrip("/").partition("/")
    if fault := key_fault(bucket) or (key_fault(prefix) if prefix else ""):
        raise StageError(Reason.CONFIG_INVALID, f"{quoted(uri)} can't be used: {fault}")
    return bucket, prefix
