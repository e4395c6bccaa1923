"""Garbage is looked for again after the imports, if it was before."""

import gc
from collections.abc import Callable, Iterator

import pytest

from lorafinetune_stages.importing import uncollected


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
