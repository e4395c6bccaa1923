"""Where a scanner is not obeyed, and why: a table of docs/security.md says it, and nothing else does."""

import re
from dataclasses import dataclass
from typing import Final

from documents import ROOT

PAGE: Final = ROOT / "docs" / "security.md"
HEADING: Final = "\n## Where they are not obeyed\n"


@dataclass(frozen=True)
class Exemption:
    """places: files, folders or, of checkov, the kinds of what it looks at."""

    scanner: str
    rule: str
    places: tuple[str, ...]
    why: str


def exemptions() -> list[Exemption]:
    section = PAGE.read_text().split(HEADING)[1].split("\n## ")[0]
    _, _, *rows = [line for line in section.splitlines() if line.startswith("|")]
    return [_read(row) for row in rows]


def exempted(scanner: str) -> set[tuple[str, str]]:
    """Each rule of it, with each place where it is not obeyed."""
    return {(one.rule, place) for one in exemptions() if one.scanner == scanner for place in one.places}


def _read(row: str) -> Exemption:
    scanner, rule, places, why = (cell.strip() for cell in row.strip("|").split("|"))
    return Exemption(scanner, rule, tuple(re.findall(r"`([^`]+)`", places)), why)
