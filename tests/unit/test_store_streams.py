"""Work that is done ahead comes out in its order, and is left when nobody wants it any more."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafinetune_stages.store.streams import ahead, in_order


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
