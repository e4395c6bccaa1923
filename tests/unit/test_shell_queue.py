"""The work queue, with a clock that the test moves."""

import asyncio
from collections.abc import Iterator

import pytest

from lorafinetune.shell.queue import FIRST_RETRY, LONGEST_RETRY, WorkQueue


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(clock)


def taken(queue: WorkQueue[str]) -> list[str]:
    """All keys that are due, in order; each is being looked at from now on."""

    def take() -> Iterator[str]:
        while turn := queue.take():
            yield turn.key

    return list(take())


def test_keys_come_in_the_order_in_which_they_are_due(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("late", after=2)
    queue.add("first")
    queue.add("second")
    clock.now += 3
    assert taken(queue) == ["first", "second", "late"]


def test_a_key_that_waits_is_taken_once_however_often_it_was_added(queue: WorkQueue[str]) -> None:
    for _ in range(3):
        queue.add("a")
    assert taken(queue) == ["a"]


def test_the_earliest_time_wins(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a", after=60)
    queue.add("a", after=5)
    queue.add("a", after=30)
    clock.now += 5
    assert taken(queue) == ["a"]
    queue.done("a")
    clock.now += 100
    assert taken(queue) == []


def test_what_is_added_while_it_is_looked_at_comes_once_more_and_not_at_the_same_time(
    queue: WorkQueue[str],
) -> None:
    queue.add("a")
    assert taken(queue) == ["a"]
    queue.add("a")
    queue.add("a")
    assert taken(queue) == []
    queue.done("a")
    assert taken(queue) == ["a"]


def test_a_look_may_ask_for_another(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a")
    taken(queue)
    queue.done("a", after=10)
    clock.now += 9
    assert taken(queue) == []
    clock.now += 1
    assert taken(queue) == ["a"]


def test_failures_are_repeated_after_pauses_that_grow_up_to_a_bound(
    queue: WorkQueue[str], clock: Clock
) -> None:
    pauses = []
    queue.add("a")
    for _ in range(40):
        assert taken(queue) == ["a"]
        pauses.append(queue.failed("a"))
        clock.now += pauses[-1]
    assert pauses[:3] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY]
    assert pauses[-1] == LONGEST_RETRY


def test_a_success_makes_the_next_failure_a_first_one(queue: WorkQueue[str], clock: Clock) -> None:
    for outcome in (queue.failed, queue.done, queue.failed):
        queue.add("a")
        assert taken(queue) == ["a"]
        pause = outcome("a")
    assert pause == FIRST_RETRY


def test_a_wake_up_during_a_failed_look_does_not_cut_its_pause_short(
    queue: WorkQueue[str], clock: Clock
) -> None:
    queue.add("a")
    taken(queue)
    queue.add("a")
    pause = queue.failed("a")
    assert taken(queue) == []
    clock.now += pause
    assert taken(queue) == ["a"]


def test_its_depth_is_what_is_due_and_not_taken(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("b")
    queue.add("later", after=1)
    queue.take()
    assert queue.depth() == 1


def test_whoever_waits_gets_what_is_added_later() -> None:
    async def waits() -> str:
        queue: WorkQueue[str] = WorkQueue(asyncio.get_running_loop().time)
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add("a", after=0.01)
        return (await waiting).key

    assert asyncio.run(waits()) == "a"
