"""When a step is taken for one that hangs, in seconds that the test counts."""

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.train.watchdog import Watchdog


def took(*steps: float, then: float) -> list[StageError]:
    """What is said of a training whose steps took so many seconds, and whose next one goes on for `then`."""
    said: list[StageError] = []
    watchdog = Watchdog(said.append)
    for number, seconds in enumerate((*steps, then), 1):
        watchdog.step_begins(number)
        for _ in range(round(seconds)):
            watchdog.tick(1)
        if number <= len(steps):
            watchdog.step_ends()
    return said


@pytest.mark.parametrize(
    ("steps", "then"),
    [
        pytest.param((2, 2, 2), 600, id="ten minutes, where kernels may be compiled"),
        pytest.param((60, 60, 60), 1200, id="twenty times the others"),
        pytest.param((2, 2), 10_000, id="one of the first, of which nobody knows"),
        pytest.param((100, 2, 90), 1800, id="twenty times the median"),
    ],
)
def test_a_step_may_take(steps: tuple[float, ...], then: float) -> None:
    assert took(*steps, then=then) == []


@pytest.mark.parametrize(
    ("steps", "then", "message"),
    [
        pytest.param((2, 2, 2), 601, "step 4 did not end in 601 s, where steps took 2 s", id="short ones"),
        pytest.param((60,) * 9, 1201, "step 10 did not end in 1201 s, where steps took 60 s", id="long ones"),
    ],
)
def test_a_step_is_given_up_after(steps: tuple[float, ...], then: float, message: str) -> None:
    (said,) = took(*steps, then=then)
    assert (said.reason, said.message) == (Reason.STALLED, message)


def test_what_lies_between_two_steps_is_nobodys_time() -> None:
    said: list[StageError] = []
    watchdog = Watchdog(said.append)
    for number in range(4):
        watchdog.step_begins(number)
        watchdog.step_ends()
        watchdog.tick(5000)
    assert said == []


def test_nobody_is_left_that_watches() -> None:
    with Watchdog() as watchdog:
        assert watchdog._thread.is_alive()
    assert not watchdog._thread.is_alive()
