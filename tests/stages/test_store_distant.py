"""A store that is far away is asked for more at a time, so that it is read as fast as a near one."""

from pathlib import Path

import pytest

from cluster.s3server import S3Server
from lorafinetune_stages.store import s3_bulk
from lorafinetune_stages.store.s3 import S3Store
from stages.distant import Distant
from stages.store_builders import MEBIBYTE, QUICK, connection, content, new_bucket, s3_store

CONTENT = content(4 * MEBIBYTE)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 128 KiB: 32 in the object."""
    monkeypatch.setattr(s3_bulk, "PART_BYTES", MEBIBYTE // 8)


@pytest.mark.usefixtures("parts")
def test_the_parts_of_a_file_come_over_many_connections(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket = new_bucket(s3_server)
    stored = s3_store(s3_server, monkeypatch, bucket).put("weights", [CONTENT])
    with Distant(s3_server.endpoint, late=0.1, rate=4 * MEBIBYTE) as distant:
        store = S3Store(bucket, "team/runs", connection(distant.endpoint), QUICK)
        assert store.download("weights", tmp_path / "weights") == stored
    assert (tmp_path / "weights").read_bytes() == CONTENT
    assert distant.most >= 6
