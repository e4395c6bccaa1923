"""Refuses to make a release of anything but a tag: of files that nobody could check out again.

usage: python release/check_tag.py VERSION
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

CHANGES: Final = Path("CHANGELOG.md")


def refusals(version: str) -> list[str]:
    """Why the files of the working directory are not those of the version; empty where they are."""
    tag, heading = f"v{version}", f"## {version}"
    found = []
    if changed := _git("status", "--porcelain"):
        found.append(f"the tree has changes that are in no commit:\n{changed}")
    if tag not in _git("tag", "--points-at", "HEAD").split():
        found.append(f"HEAD is not {tag}: git tag --annotate {tag}")
    if heading not in CHANGES.read_text().splitlines():
        found.append(f"{CHANGES} has no heading '{heading}': say what is new in it")
    return found


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments],  # noqa: S607 - whichever git made the clone
        capture_output=True,
        text=True,
        check=True,
    ).stdout


if __name__ == "__main__":
    why = refusals(sys.argv[1])
    sys.stderr.writelines(f"no release: {reason}\n" for reason in why)
    sys.exit(1 if why else 0)
