"""Imports that take seconds: torch, transformers and LLaMA-Factory make a million objects that stay."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

TURN_SECONDS: Final = 0.0005
"""A tenth of Python's own."""


@contextmanager
def uncollected() -> Iterator[None]:
    """To be entered around them. No garbage is looked for meanwhile: there is hardly any, and to look through
    all objects again and again takes a sixth of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def sharing() -> Iterator[None]:
    """To be entered where one thread imports while others move data. Importing keeps the interpreter for
    whole turns, and who moves data waits for one after each piece that was received, hashed or written."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
