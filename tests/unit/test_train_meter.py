"""What a training costs, by a clock that the test turns."""

from lorafinetune.api.status import GpuSeconds
from lorafinetune_stages.train.meter import Meter


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def step(meter: Meter, clock: Clock, seconds: float, before: int, after: int) -> None:
    meter.step_begins(before)
    clock.now += seconds
    meter.step_ends(after)


def test_time_is_counted_by_gpu_and_by_what_it_went_into() -> None:
    clock = Clock()
    meter = Meter(2, clock)
    clock.now += 10
    step(meter, clock, 3, 0, 600)
    with meter.evaluating():
        clock.now += 5
    assert meter.gpu_seconds() == GpuSeconds(held=36, training=6, evaluating=10)


def test_earlier_attempts_count() -> None:
    clock = Clock()
    meter = Meter(1, clock)
    meter.before = GpuSeconds(held=100, training=80, evaluating=5)
    step(meter, clock, 3, 0, 600)
    assert meter.gpu_seconds() == GpuSeconds(held=103, training=83, evaluating=5)


def test_a_cpu_costs_no_gpu_time() -> None:
    clock = Clock()
    meter = Meter(0, clock)
    step(meter, clock, 3, 0, 600)
    assert meter.gpu_seconds() == GpuSeconds()


def test_the_speed_is_that_of_this_attempts_steps() -> None:
    clock = Clock()
    meter = Meter(1, clock)
    step(meter, clock, 2, 10_000, 10_600)
    clock.now += 50
    step(meter, clock, 2, 10_600, 11_000)
    assert meter.tokens_per_second == 250
