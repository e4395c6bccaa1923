"""Imports LLaMA-Factory and transformers without what they import only since it is installed.

They look whether a package is there, and do without it where it is not. A name that is None in `sys.modules`
is not there, says Python's documentation of the import system; it is so for as long as it is imported, and
whoever asks for the package later gets it.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

UNWANTED: Final = ("av", "matplotlib", "scipy")
"""av: for videos. matplotlib: for LLaMA-Factory's plots; ours imports it when it draws. scipy: for losses of
models that see. Not torchvision: with it goes the processor of a model that sees too, and its template asks
for one. Not triton: torch would remember that it is not there, and compile nothing for a GPU."""


@contextmanager
def lean_imports() -> Iterator[None]:
    """To be entered around imports of what takes long. It looks for no garbage meanwhile: imports make hardly
    any, and to look through a million new objects again and again takes a sixth of their time."""
    modules: dict[str, Any] = sys.modules
    absent = [name for name in UNWANTED if name not in modules]
    collecting = gc.isenabled()
    modules.update(dict.fromkeys(absent))
    gc.disable()
    try:
        yield
    finally:
        for name in absent:
            modules.pop(name, None)
        if collecting:
            gc.enable()
