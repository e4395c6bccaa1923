"""Puts what faults and disturbances came to into docs/reliability.md: `python -m bench.reliability`.

The page is written by hand, but for what stands between the two marks of each result.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from bench.page import measured
from bench.results import RESULTS, ROOT

PAGE: Final = ROOT / "docs" / "reliability.md"
MARKED: Final = re.compile(r"(<!-- (\w+): by `[^`]+` -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    PAGE.write_text(renewed(PAGE.read_text()))


def renewed(page: str) -> str:
    """The page with the tables of the results that are kept."""
    return MARKED.sub(lambda found: f"{found[1]}{_section(found[2])}{found[3]}", page)


def marked(page: str) -> list[str]:
    """The results that have their place on a page."""
    return [name for _, name, _ in MARKED.findall(page)]


def _section(name: str) -> str:
    path = RESULTS / f"{name}.json"
    if not path.exists():
        part = name.removeprefix("faults_")
        return f"\nNot tried whole yet (`make {'soak' if part == name else f'faults PARTS={part}'}`).\n\n"
    result: Mapping[str, Any] = json.loads(path.read_text())
    return f"\n{measured(result)}Seed {result['seed']}.{_lived(result)}\n\n"


def _lived(result: Mapping[str, Any]) -> str:
    """How much a soak was."""
    lives = sum(result.get("lives", {}).values())
    return f" {lives:,} lives in {result['seconds']:,} s." if lives else ""


if __name__ == "__main__":
    main()
