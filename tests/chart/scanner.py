"""checkov in an environment of its own, locked beside it, made once for what is in the lock."""

import json
from pathlib import Path

from cluster.environments import environment
from cluster.process import run

PROJECT = Path(__file__).parent / "checkov"


def failures(framework: str, *places: Path) -> set[str]:
    """The checks that fail in files and folders, by their names; checkov must have looked at something."""
    given = [f"--{'directory' if place.is_dir() else 'file'}={place}" for place in places]
    report = json.loads(_checkov(*given, f"--framework={framework}", "--output=json", "--soft-fail"))
    assert report["check_type"] == framework
    assert report["summary"]["passed"] > 0
    return {check["check_id"] for check in report["results"]["failed_checks"]}


def _checkov(*arguments: str) -> str:
    program = environment(PROJECT, "checkov") / "bin" / "checkov"
    return run(str(program), *arguments, "--skip-download", "--quiet", environment={"LOG_LEVEL": "ERROR"})
