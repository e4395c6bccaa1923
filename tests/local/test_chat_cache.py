"""What `lorafinetune chat` keeps of a store on the network, so that it is fetched once."""

import sys
from pathlib import Path
from typing import Final

import pytest

from cluster.s3server import S3Server
from commands import Command, commander
from lorafinetune.cli.run import keep
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.manifest import ManifestFile, commit_manifest, withdraw_manifest
from stages.store_builders import s3_store
from unit.test_cli_store import ended, put, used_by

MODEL, *_, TRAINING, _EXPORT = used_by(ended())
BUCKET: Final = "bucket"


@pytest.fixture
def store(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Store:
    s3_server.create_bucket(BUCKET)
    return s3_store(s3_server, monkeypatch, BUCKET, "runs")


def train(store: Store, weights: bytes) -> None:
    """Puts a training into the store, in place of an earlier one."""
    withdraw_manifest(store, TRAINING)
    stored = store.put(f"{TRAINING}/adapter/weights", [weights])
    listed = [ManifestFile(path="adapter/weights", size=stored.size, sha256=stored.sha256)]
    kind, _, key = TRAINING.partition("/")
    commit_manifest(store, TRAINING, kind, key, listed, {}, None)


def test_a_training_that_is_made_anew_is_fetched_anew(
    store: Store,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/bin/echo")
    secret = tmp_path / "secrets" / "s3"
    secret.mkdir(parents=True)
    (secret / "AWS_ACCESS_KEY_ID").write_text(s3_server.access_key)
    (secret / "AWS_SECRET_ACCESS_KEY").write_text(s3_server.secret_key)
    keep(ended(), tmp_path / "run.yaml")
    options = ("--s3", "--endpoint", s3_server.endpoint, "--secrets", tmp_path / "secrets")
    lorafinetune: Command = commander(monkeypatch, capfd)

    def asked() -> Path:
        """The adapter that answers."""
        code, out, err = lorafinetune("chat", tmp_path / "run.yaml", "Hi", *options)
        assert (code, err) == (0, "")
        return next(Path(word) for word in out.split() if word.endswith("/adapter"))

    put(store, MODEL)
    train(store, b"old")
    first = asked()
    (first / "kept").touch()
    assert asked() == first
    train(store, b"new")
    assert ((first / "weights").read_bytes(), (asked() / "weights").read_bytes()) == (b"old", b"new")
