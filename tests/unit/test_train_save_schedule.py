"""When a training is saved, by steps, epochs and a clock that the test turns."""

import pytest

from lorafinetune_stages.train.save_schedule import SaveSchedule


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("every", "step", "epoch", "is_due"),
    [
        pytest.param(5, 10, 0.5, True, id="a multiple of the steps"),
        pytest.param(5, 11, 1.0, False, id="another step"),
        pytest.param("epoch", 11, 2.0, True, id="the end of an epoch"),
        pytest.param("epoch", 10, 1.5, False, id="the middle of an epoch"),
        pytest.param("10m", 10, 1.0, False, id="any step, where the clock decides"),
    ],
)
def test_after_a_step_it_is_saved(every: int | str, step: int, epoch: float, is_due: bool) -> None:
    assert SaveSchedule(every).is_due_after(step, epoch) == is_due


@pytest.mark.parametrize(
    ("every", "seconds", "is_due"),
    [
        pytest.param("10m", 599, False, id="too early"),
        pytest.param("10m", 600, True, id="in time"),
        pytest.param(5, 10_000, False, id="never, where steps decide"),
        pytest.param("epoch", 10_000, False, id="never, where epochs decide"),
    ],
)
def test_by_the_clock_it_is_saved(every: int | str, seconds: float, is_due: bool) -> None:
    clock = Clock()
    schedule = SaveSchedule(every, clock)
    clock.now += seconds
    assert schedule.is_due_by_now == is_due


def test_the_clock_begins_anew_with_each_save() -> None:
    clock = Clock()
    schedule = SaveSchedule("1m", clock)
    clock.now += 60
    schedule.note()
    assert not schedule.is_due_by_now
