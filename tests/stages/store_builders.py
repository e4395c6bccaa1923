"""Stores for tests: S3 stores at the real server, and what they need around them."""

import random
import uuid
from collections.abc import Iterator, Mapping

import pytest

from cluster.s3server import S3Server
from lorafinetune.api.sources import Connection, SecretReference
from lorafinetune.contract.arguments import credential_variable
from lorafinetune_stages.store.s3 import S3Store
from lorafinetune_stages.store.s3_access import Bounds

MEBIBYTE = 2**20
QUICK = Bounds(attempts=1, connect_seconds=2, request_seconds=10)
"""For tests in which a server fails: no second attempt."""


def connection(endpoint: str, name: str = "store", **changes: object) -> Connection:
    fields: dict[str, object] = {"name": name, "endpoint": endpoint, "secret_ref": SecretReference(name="s3")}
    return Connection.model_validate(fields | changes)


def set_keys(monkeypatch: pytest.MonkeyPatch, keys: Mapping[str, str], name: str = "store") -> None:
    """Puts the keys of a connection's Secret into the environment, as the operator would."""
    for key, value in keys.items():
        monkeypatch.setenv(credential_variable(name, key), value)


def s3_store(
    server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    bucket: str,
    prefix: str = "team/runs",
    access_key: str | None = None,
    secret_key: str | None = None,
) -> S3Store:
    """A store at the real server, in the root's name or in another's."""
    keys = {
        "AWS_ACCESS_KEY_ID": access_key or server.access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key or server.secret_key,
    }
    set_keys(monkeypatch, keys)
    return S3Store(bucket, prefix, connection(server.endpoint), QUICK)


def new_bucket(server: S3Server) -> str:
    name = f"bucket-{uuid.uuid4().hex}"
    server.create_bucket(name)
    return name


def content(size: int, seed: int = 0) -> bytes:
    """Bytes that look like no other bytes."""
    return random.Random(seed).randbytes(size)


def in_pieces(data: bytes, size: int = MEBIBYTE) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
