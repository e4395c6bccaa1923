"""What prepare proves of the store before a GPU is asked for, also where it finds all its own work there."""

from pathlib import Path

import pytest

from cluster.s3server import S3Server
from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import DatasetStatus, Estimate
from lorafinetune.contract.outcome import PrepareResult, StageError
from lorafinetune_stages.prepare import run
from lorafinetune_stages.prepare.inputs import read_inputs, train_key
from lorafinetune_stages.prepare.output import Prepared
from lorafinetune_stages.prepare.proofs import keep_estimate, proof_key
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.s3 import S3Store
from stages.prepare_builders import Bench, alpaca, json_lines
from stages.s3_answers import S3Answers
from stages.store_builders import QUICK, connection, new_bucket, s3_store, set_keys

DIGEST = "d" * 64


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A dataset that was prepared, and a training that was tried with it."""
    made = Bench(tmp_path).add(json_lines([alpaca("q", "a")]))
    arguments = made.arguments()
    inputs = read_inputs(arguments, made.store)
    status = DatasetStatus(rows=9, tokens=90, learned_tokens=40, digest=DIGEST, report="file:///report.json")
    prepared = Prepared(template="smollm2", dataset=status)
    made.put("prepared", inputs.key, {"report.json": b"{}"}, prepared.encode())
    estimate = Estimate(steps=9, seconds=60, disk=1)
    tried = proof_key(arguments, train_key(inputs, arguments.training))
    keep_estimate(inputs.key, tried, estimate, made.store)
    return made


def moved(bench: Bench, store: Store) -> None:
    """Writes all that the bench's store has into another."""
    for entry in bench.store.list(""):
        store.write(entry.key, bench.store.read(entry.key) or b"")


def prepared(bench: Bench, store: Store) -> PrepareResult:
    return run(bench.arguments(), Context(store, bench.root, Reporter("prepare", None)))


def test_a_store_that_can_no_longer_be_written_to_is_refused(
    bench: Bench, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = new_bucket(s3_server)
    moved(bench, s3_store(s3_server, monkeypatch, bucket))
    s3_server.create_user("reader-of-prepared", "readers-secret")
    s3_server.let_read("reader-of-prepared", bucket)
    reader = s3_store(s3_server, monkeypatch, bucket, "team/runs", "reader-of-prepared", "readers-secret")
    with pytest.raises(StageError) as caught:
        prepared(bench, reader)
    assert caught.value.reason is Reason.STORAGE_DENIED
    assert caught.value.hint == "Grant read, write and list on the prefix of `spec.storage.uri`."


def test_a_server_with_conditional_writes_is_no_concern(
    bench: Bench, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = s3_store(s3_server, monkeypatch, new_bucket(s3_server))
    moved(bench, store)
    result = prepared(bench, store)
    assert (result.cache_hit, result.warnings) == (True, ())


def test_a_server_without_conditional_writes_is_a_warning(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_keys(monkeypatch, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})
    with S3Answers(conditional=False) as server:
        store = S3Store("bucket", "runs", connection(server.endpoint), QUICK)
        moved(bench, store)
        assert prepared(bench, store).warnings[-1] == (
            "s3://bucket/runs: its server has no conditional writes: two runs at once may both believe to be "
            "first"
        )
