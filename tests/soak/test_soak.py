"""A soak of a few lives: what is left behind by one is seen here, what grows slowly is not."""

from pathlib import Path

import pytest

from soak.lives import KINDS
from soak.soaking import Soaked, soak

LIVES = 40


@pytest.mark.apiserver
def test_short_lives_leave_nothing_behind(tmp_path: Path) -> None:
    soaked = soak(tmp_path, LIVES, at_once=8, seconds=120, seed=7)
    assert sum(soaked.lives.values()) == LIVES
    assert soaked.left == dict.fromkeys(KINDS, 0)
    assert soaked.trouble == []


def test_what_grows_is_told() -> None:
    soaked = Soaked({"left alone": 800}, held([100.0] * 40, [100.0 + n for n in range(40)]), {"jobs": 1}, [])
    assert soaked.complaints() == ["memory grew by 100,000 bytes a life", "1 jobs are left"]


def test_what_an_operator_takes_at_first_is_no_growth() -> None:
    soaked = Soaked({"left alone": 800}, held([90.0 + n for n in range(40)], [130.0, 130.1] * 20), {}, [])
    assert soaked.complaints() == []


def test_what_else_grows_is_told() -> None:
    more = [{**each, "tasks": 9 + n} for n, each in enumerate(held([100.0] * 80))]
    soaked = Soaked({"left alone": 80}, more, {}, [])
    assert soaked.complaints() == ["tasks grew from 33.5 to 83.5"]


def held(*halves: list[float]) -> list[dict[str, float]]:
    """memory: in MB, once a second."""
    rest = {"file descriptors": 20, "threads": 4, "tasks": 9}
    return [{"memory MB": memory, **rest} for half in halves for memory in half]
