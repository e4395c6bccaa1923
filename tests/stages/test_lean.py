"""What is kept out of the imports of the stages: that it is, that it would be imported otherwise, and that
whoever needs it still gets it."""

import subprocess
import sys

import pytest

from lorafinetune_stages.lean import UNWANTED

pytestmark = pytest.mark.model

CASES: dict[str, tuple[str, ...]] = {
    "prepare": ("lorafinetune_stages.prepare.making", "lorafinetune_stages.prepare.preflight"),
    "train": ("lorafinetune_stages.train.launch",),
    "a merge": ("lorafinetune_stages.export.making", "lorafinetune_stages.export.merging"),
    "a merge by LLaMA-Factory": ("lorafinetune_stages.export.making", "lorafinetune_stages.export.whole"),
}
LEAN = """
import gc, sys
from importlib import import_module
from lorafinetune_stages.lean import UNWANTED, lean_imports
with lean_imports():
    for name in sys.argv[1:]:
        import_module(name)
assert gc.isenabled()
print(*set(UNWANTED) & set(sys.modules))
for name in UNWANTED:
    import_module(name)
"""
PLAIN = """
import sys
from importlib import import_module
for name in sys.argv[1:]:
    import_module(name)
print(*sys.modules)
"""


def imported(code: str, modules: tuple[str, ...]) -> set[str]:
    command = [sys.executable, "-c", code, *modules]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("modules", CASES.values(), ids=CASES)
def test_a_stage_imports_nothing_that_is_unwanted_and_can_still_import_it(modules: tuple[str, ...]) -> None:
    assert imported(LEAN, modules) == set()


def test_all_that_is_unwanted_would_be_imported_otherwise() -> None:
    assert set(UNWANTED) <= imported(PLAIN, CASES["train"])
