"""Unit tests share a process, and commands are tried in it as if they had it to themselves."""

import os
from collections.abc import Iterator
from unittest.mock import patch

import pytest


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """What a test, or a command in it, sets in the environment is gone after it."""
    with patch.dict(os.environ):
        yield
