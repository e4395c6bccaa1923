"""A few writers of a real S3 server, most of them killed: what is left is gone with the next one."""

from pathlib import Path

import pytest

from soak.uploads import soak

WRITERS = 12

pytestmark = pytest.mark.s3


def test_killed_writers_leave_no_unfinished_uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    soaked = soak(tmp_path, WRITERS, at_once=3, seed=7)
    assert soaked.killed > 0
    assert soaked.most > 0
    assert (soaked.left, soaked.parts_left) == (0, 0)
