"""The tables of what is tried: every test that they name exists, and no attempt and no reason is left out."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest
import yaml

from lorafinetune.api.reasons import Reason

ROOT: Final = Path(__file__).parents[2]
NAMED: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")

FILE: Final = re.compile(r"`([\w/]*\btest_\w+\.py)")
"""With or without the name of a test in it."""
FILES: Final = {
    path
    for document in ("security.md", "reliability.md")
    for path in FILE.findall((ROOT / "docs" / document).read_text())
}


def lines(document: str) -> list[str]:
    """Those that name a test."""
    return [line for line in (ROOT / "docs" / document).read_text().splitlines() if NAMED.search(line)]


ATTEMPTS: Final = lines("security.md")
REASONS: Final = lines("reliability.md")
ALL_NAMED: Final = {named for line in (*ATTEMPTS, *REASONS) for named in NAMED.findall(line)}


@pytest.mark.parametrize(("path", "name"), sorted(ALL_NAMED))
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    assert name in functions(ROOT / path)


@pytest.mark.parametrize("path", sorted(FILES))
def test_a_file_of_tests_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).is_file()


def test_every_attempt_stands_in_it() -> None:
    attacks = [*(ROOT / "tests/faults/attacks").glob("test_*.py"), ROOT / "tests/apiserver/test_attacks.py"]
    tried = {(str(path.relative_to(ROOT)), name) for path in attacks for name in functions(path)}
    assert tried == {named for line in ATTEMPTS for named in NAMED.findall(line) if "attacks" in named[0]}


def test_each_file_of_an_attempt_is_named_after_its_sentence() -> None:
    files = sorted((ROOT / "tests/faults/attacks").glob("*/*.yaml"))
    assert len(files) >= 60
    assert [path.stem for path in files] == [
        kebab(yaml.safe_load(path.read_text())["attempt"]) for path in files
    ]


def test_every_reason_is_provoked_by_a_test() -> None:
    assert [line.split(" | ")[0].removeprefix("| ") for line in REASONS] == [*Reason]


@pytest.mark.parametrize(("line", "reason"), [*zip(REASONS, Reason, strict=True)], ids=[*Reason])
def test_a_test_of_a_reason_speaks_of_it(line: str, reason: Reason) -> None:
    sources = [(ROOT / path).read_text() for path, _ in NAMED.findall(line)]
    assert any(re.search(rf"\b({reason}|{reason.name})\b", source) for source in sources)


def kebab(sentence: str) -> str:
    return re.sub("[^a-z0-9]+", "-", sentence.lower().replace("'", ""))


def functions(path: Path) -> set[str]:
    """The tests of a file."""
    found = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
    return {name for name in found if name.startswith("test_")}
