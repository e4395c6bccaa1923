"""Work that is done ahead comes out in its order, and is left when nobody wants it any more."""

import threading
from collections.abc import Iterator
from contextlib import closing
from threading import BoundedSemaphore, Lock
from time import sleep

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafinetune_stages.store.streams import ahead, as_wanted, in_order


@given(st.lists(st.integers(), max_size=20), st.integers(1, 5), st.integers(0, 5))
def test_the_order_is_that_of_the_items(items: list[int], at_once: int, threads: int) -> None:
    assert list(in_order(lambda item: -item, items, at_once, threads)) == [-item for item in items]
    assert list(ahead(items, at_once)) == items


def test_no_more_than_so_many_are_taken_before_the_first_is_asked_for() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    with closing(in_order(lambda item: item, items(), 3)) as made:
        assert next(made) == 0
        assert taken == [0, 1, 2]


@given(st.lists(st.integers(), max_size=20), st.integers(0, 3), st.integers(0, 3))
def test_what_is_wanted_comes_in_order_and_gives_back_what_it_had_to_spare(
    items: list[int], most: int, room: int
) -> None:
    spare = BoundedSemaphore(room)
    assert list(as_wanted(lambda item: -item, items, spare, most)) == [-item for item in items]
    assert taken_of(spare, room) == 0


@pytest.mark.parametrize(("most", "room", "at_once"), [(4, 9, 6), (9, 2, 4), (0, 9, 2)])
def test_as_many_are_on_their_way_as_a_slow_store_needs_and_as_there_is_room_for(
    most: int, room: int, at_once: int
) -> None:
    lock, on_their_way, largest = Lock(), 0, 0

    def answered(number: int) -> int:
        nonlocal on_their_way, largest
        with lock:
            on_their_way += 1
            largest = max(largest, on_their_way)
        sleep(0.01)
        with lock:
            on_their_way -= 1
        return number

    assert list(as_wanted(answered, range(40), BoundedSemaphore(room), most)) == list(range(40))
    assert largest == at_once


def test_nothing_to_spare_is_taken_where_nobody_waits() -> None:
    spare = BoundedSemaphore(9)
    made = as_wanted(lambda item: item, range(20), spare, 9)
    for _ in range(10):
        next(made)
        sleep(0.005)
    assert taken_of(spare, 9) <= 1
    made.close()
    assert taken_of(spare, 9) == 0


def taken_of(spare: BoundedSemaphore, room: int) -> int:
    free = sum(1 for _ in range(room) if spare.acquire(blocking=False))
    if free:
        spare.release(free)
    return room - free


def test_the_items_are_made_by_another_thread() -> None:
    names = ahead(iter(lambda: threading.current_thread().name, None), 2)
    with closing(names):
        assert next(names) != threading.current_thread().name


@pytest.mark.parametrize("failing", [0, 3])
def test_a_failure_is_raised_where_its_item_would_come(failing: int) -> None:
    def items() -> Iterator[int]:
        yield from range(failing)
        raise ValueError("broken")

    seen: list[int] = []
    with pytest.raises(ValueError, match="broken"):
        seen.extend(ahead(items(), 2))
    made = ahead(items(), 2)
    assert [next(made) for _ in range(failing)] == list(range(failing))
    with pytest.raises(ValueError, match="broken"):
        next(made)


def test_what_nobody_wants_any_more_is_not_begun() -> None:
    begun: list[int] = []
    made = in_order(begun.append, range(100), 2, threads=1)
    next(made)
    made.close()
    assert len(begun) <= 2
