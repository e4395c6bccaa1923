"""After the imports all is as before: whether garbage is looked for, and how long a thread's turn is."""

import gc
import sys
from collections.abc import Callable, Iterator

import pytest

from lorafinetune_stages.imports import sharing, uncollected


@pytest.fixture(autouse=True)
def afterwards() -> Iterator[None]:
    yield
    gc.enable()


@pytest.mark.parametrize("before", [gc.enable, gc.disable])
def test_collection_is_as_it_was_before(before: Callable[[], None]) -> None:
    before()
    enabled = gc.isenabled()
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled() is enabled


def test_turns_are_short_while_others_move_data_and_as_long_as_before_afterwards() -> None:
    before = sys.getswitchinterval()
    with sharing():
        assert sys.getswitchinterval() < before / 2
    assert sys.getswitchinterval() == before
