"""Imports of what takes seconds: torch, transformers and LLaMA-Factory make a million objects that stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


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
