"""When a step, or a pass of an evaluation, is taken for one that hangs, in seconds that the test counts."""

import math

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.train.watchdog import Watchdog


def took(*steps: float, then: float, gpus: int = 1) -> list[StageError]:
    """What is said of a training whose steps took so many seconds, and whose next one goes on for `then`."""
    said: list[StageError] = []
    watchdog = Watchdog(gpus, said.append)
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
        pytest.param((2, 2), 7200, id="two hours, where it is one of the first, of which nobody knows"),
        pytest.param((100, 2, 90), 1800, id="twenty times the median"),
    ],
)
def test_a_step_may_take(steps: tuple[float, ...], then: float) -> None:
    assert took(*steps, then=then) == []


@pytest.mark.parametrize(
    ("steps", "then", "message"),
    [
        pytest.param((2, 2, 2), 601, "step 4 did not end in 601 s, where others took 2 s", id="short ones"),
        pytest.param(
            (60,) * 9, 1201, "step 10 did not end in 1201 s, where others took 60 s", id="long ones"
        ),
        pytest.param((), 7201, "step 1 did not end in 7201 s", id="the first of all"),
    ],
)
def test_a_step_is_given_up_after(steps: tuple[float, ...], then: float, message: str) -> None:
    (said,) = took(*steps, then=then)
    assert (said.reason, said.message) == (Reason.STALLED, message)


def test_the_first_step_of_a_processor_may_take_days() -> None:
    assert took(then=200_000, gpus=0) == []


def evaluated(*passes: float) -> list[StageError]:
    """What is said of an evaluation whose passes took so many seconds, after steps of a second."""
    said: list[StageError] = []
    watchdog = Watchdog(1, said.append)
    for number in range(9):
        watchdog.step_begins(number)
        watchdog.tick(1)
        watchdog.step_ends()
    with watchdog.passes("passes") as begins:
        for seconds in passes:
            begins()
            watchdog.tick(seconds)
    watchdog.tick(math.inf)
    return said


@pytest.mark.parametrize(
    "passes",
    [
        pytest.param((1000, 5000), id="two of the first may take their time"),
        pytest.param((100, 100, 100, 1900), id="twenty times the others, whatever a step takes"),
        pytest.param((400,) * 50, id="many, in all longer than any step may take"),
    ],
)
def test_an_evaluation_may_take(passes: tuple[float, ...]) -> None:
    assert evaluated(*passes) == []


def test_passes_of_one_kind_say_nothing_of_another() -> None:
    said: list[StageError] = []
    watchdog = Watchdog(1, said.append)
    for kind, seconds in (("short ones", 1), ("short ones", 1), ("short ones", 1), ("long ones", 6000)):
        with watchdog.passes(kind) as begins:
            begins()
            watchdog.tick(seconds)
    assert said == []


def test_a_pass_of_an_evaluation_is_given_up() -> None:
    (said,) = evaluated(1, 1, 1, 601)
    assert said.reason is Reason.STALLED
    assert said.message == "one of the passes did not end in 601 s, where others took 1 s"


def test_what_lies_between_two_steps_is_nobodys_time() -> None:
    said: list[StageError] = []
    watchdog = Watchdog(1, said.append)
    for number in range(4):
        watchdog.step_begins(number)
        watchdog.step_ends()
        watchdog.tick(5000)
    assert said == []


def test_nobody_is_left_that_watches() -> None:
    with Watchdog(1) as watchdog:
        assert watchdog._thread.is_alive()
    assert not watchdog._thread.is_alive()
