"""When a stage posts its progress."""

from lorafinetune_stages.push import LONGEST_WAIT_SECONDS, PostSchedule


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def paced() -> tuple[PostSchedule, Clock]:
    clock = Clock()
    return PostSchedule(5, clock), clock


def test_the_first_post_is_due_at_once() -> None:
    assert paced()[0].seconds_left(urgent=False) <= 0


def test_the_next_is_due_after_the_interval_and_what_is_urgent_after_a_second() -> None:
    pace, clock = paced()
    pace.begins()
    pace.ends(well=True)
    clock.now += 0.5
    assert (pace.seconds_left(urgent=False), pace.seconds_left(urgent=True)) == (4.5, 0.5)


def test_every_failure_doubles_the_wait_up_to_a_minute_and_nothing_is_so_urgent_as_to_shorten_it() -> None:
    pace, _ = paced()
    waits = []
    for _ in range(1100):
        pace.begins()
        pace.ends(well=False)
        assert pace.seconds_left(urgent=True) == pace.seconds_left(urgent=False)
        waits.append(pace.seconds_left(urgent=True))
    assert waits[:4] == [10, 20, 40, LONGEST_WAIT_SECONDS]
    assert waits[-1] == LONGEST_WAIT_SECONDS


def test_a_post_that_goes_well_ends_the_waiting() -> None:
    pace, _ = paced()
    for well in (False, False, True):
        pace.begins()
        pace.ends(well)
    assert pace.seconds_left(urgent=False) == 5
