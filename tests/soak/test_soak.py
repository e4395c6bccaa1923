"""A soak of a few lives: what is left behind by one is seen here, what grows slowly is not."""

from pathlib import Path

import pytest

from soak.soaking import Soaked, soak

LIVES = 40


@pytest.mark.apiserver
def test_short_lives_leave_nothing_behind(tmp_path: Path) -> None:
    soaked = soak(tmp_path, LIVES, at_once=8, seconds=120, seed=7)
    assert sum(soaked.lives.values()) == LIVES
    assert soaked.left == dict.fromkeys(("lorafinetunes", "jobs", "pods", "services", "configmaps"), 0)
    assert soaked.trouble == []


def test_what_grows_is_told() -> None:
    held = [{"memory MB": 90.0 + n, "file descriptors": 20, "threads": 4, "tasks": 9} for n in range(80)]
    soaked = Soaked({"left alone": 80}, held, {"jobs": 1}, [])
    assert soaked.complaints() == ["memory MB grew from 114.5 to 164.5", "1 jobs are left"]
