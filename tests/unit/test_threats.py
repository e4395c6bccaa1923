"""The table of what is tried: every test that it names exists, and no table of attempts is left out."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
NAMED: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
LINES: Final = [
    line for line in (ROOT / "docs" / "security.md").read_text().splitlines() if NAMED.search(line)
]


@pytest.mark.parametrize(("path", "name"), sorted({named for line in LINES for named in NAMED.findall(line)}))
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    assert name in functions(ROOT / path)


def test_every_attempt_stands_in_it() -> None:
    attacks = [*(ROOT / "tests/faults/attacks").glob("test_*.py"), ROOT / "tests/apiserver/test_attacks.py"]
    tried = {(str(path.relative_to(ROOT)), name) for path in attacks for name in functions(path)}
    assert tried == {named for line in LINES for named in NAMED.findall(line) if "attacks" in named[0]}


def functions(path: Path) -> set[str]:
    """The tests of a file."""
    found = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
    return {name for name in found if name.startswith("test_")}
