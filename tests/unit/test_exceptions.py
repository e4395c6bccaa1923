"""Whoever does not obey a scanner says why where all of it stands: in docs/security.md."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any, Final

from documents import ROOT
from exceptions import exempted, exemptions

LINT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
SOURCES: Final = ("operator", "images", "release", "samples", "tests")
SCANNED: Final = (*SOURCES, "charts", ".github")
READ: Final = {".py", ".yaml", ".yml", ".tpl", ".go", ".toml"}
EVERYWHERE: Final = "."
OF_BANDIT: Final = re.compile(r"\bS\d+\b")
EXEMPTED: Final = re.compile(r"#\s*noqa:\s*([A-Z0-9, ]+)")
UNNAMED: Final = re.compile(
    r"#\s*noqa\b(?!:)|#\s*(?:ruff|flake8):\s*noqa|#\s*nosec|checkov:\s*skip|trivy:\s*ignore|ignore-check\.kube-linter"
)
"""What would have a scanner be silent without telling this test for which rule, or without a reason."""


def written() -> Iterator[tuple[str, str]]:
    """Each rule that a line of the code is exempted from, with its file, or of tests their folder."""
    for folder in SOURCES:
        for file in (ROOT / folder).rglob("*.py"):
            place = "tests" if folder == "tests" else file.relative_to(ROOT).as_posix()
            for line in EXEMPTED.findall(file.read_text()):
                yield from ((rule, place) for rule in OF_BANDIT.findall(line))


def configured() -> Iterator[tuple[str, str]]:
    """Those that pyproject.toml exempts all of a folder from."""
    folders = {"**": LINT["ignore"]} | LINT["per-file-ignores"]
    for pattern, rules in folders.items():
        place = pattern.removesuffix("**").rstrip("/") or EVERYWHERE
        yield from ((rule, place) for rule in rules if OF_BANDIT.fullmatch(rule))


def test_every_rule_of_bandit_that_is_not_obeyed_is_explained_and_no_other() -> None:
    assert exempted("ruff") == {*written(), *configured()}


def test_everything_that_is_not_obeyed_has_a_reason() -> None:
    assert [one for one in exemptions() if len(one.why) < 10 or not one.places] == []


def test_no_scanner_is_silenced_beside_the_table() -> None:
    files = [file for folder in SCANNED for file in (ROOT / folder).rglob("*") if file.suffix in READ]
    assert [file for file in files if UNNAMED.search(file.read_text())] == []
