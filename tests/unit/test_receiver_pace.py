"""How often a pod is listened to."""

from lorafinetune.shell.receiver.rate import BURST, MANY, RateLimiter


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_pod_has_one_turn_a_second_after_a_few_at_once() -> None:
    clock = Clock()
    pace = RateLimiter(clock)
    assert [pace.admits("a") for _ in range(BURST + 2)] == [True] * BURST + [False] * 2
    clock.now += 1
    assert [pace.admits("a") for _ in range(2)] == [True, False]


def test_in_the_long_run_no_pod_has_more_than_one_turn_a_second() -> None:
    clock = Clock()
    pace = RateLimiter(clock)
    taken = 0
    for _ in range(1000):
        clock.now += 0.1
        taken += pace.admits("a")
    assert taken == 100 + BURST - 1


def test_pods_do_not_take_each_others_turns() -> None:
    pace = RateLimiter(Clock())
    assert [pace.admits("a") for _ in range(BURST + 1)][-1] is False
    assert pace.admits("b")


def test_a_pod_that_is_silent_for_long_saves_up_nothing() -> None:
    clock = Clock()
    pace = RateLimiter(clock)
    pace.admits("a")
    clock.now += 3600
    assert [pace.admits("a") for _ in range(BURST + 1)].count(True) == BURST


def test_pods_of_the_past_are_forgotten() -> None:
    clock = Clock()
    pace = RateLimiter(clock)
    for number in range(3 * MANY):
        clock.now += 0.01
        pace.admits(str(number))
    assert len(pace._used) <= MANY
