"""What looks for weak spots: checkov, in an environment of its own that is locked beside it, and trivy."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.build import binary
from cluster.environments import environment
from cluster.process import run

PROJECT = Path(__file__).parent / "checkov"


def checkov(framework: str, *places: Path) -> set[str]:
    """The checks that fail in files and folders, by their names; it must have looked at something."""
    given = [f"--{'directory' if place.is_dir() else 'file'}={place}" for place in places]
    report = json.loads(_checkov(*given, f"--framework={framework}", "--output=json", "--soft-fail"))
    assert report["check_type"] == framework
    assert report["summary"]["passed"] > 0
    return {check["check_id"] for check in report["results"]["failed_checks"]}


def trivy(framework: str, *files: Path) -> set[str]:
    """The checks that fail in files, by their names; it must have looked at something."""
    with TemporaryDirectory() as folder:
        for number, file in enumerate(files):
            shutil.copy(file, Path(folder, f"{number}-{file.name}"))
        report = json.loads(run(str(binary("trivy")), framework, folder))
    assert report["passed"] > 0
    return set(report["failed"])


def _checkov(*arguments: str) -> str:
    program = environment(PROJECT, "checkov") / "bin" / "checkov"
    return run(str(program), *arguments, "--skip-download", "--quiet", environment={"LOG_LEVEL": "ERROR"})
