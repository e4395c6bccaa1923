"""checkov in an environment of its own, locked beside it, made once for what is in the lock."""

import hashlib
import json
import os
import shutil
from pathlib import Path

from cluster.build import cache, one_at_a_time
from cluster.process import run, say

PROJECT = Path(__file__).parent / "checkov"
EXCEPTIONS = PROJECT / "exceptions.yaml"
OURS = Path(__file__).parents[2] / ".uv" / "bin" / "uv"


def failures(framework: str, *places: Path) -> set[str]:
    """The checks that fail in files and folders, by their names; checkov must have looked at something."""
    given = [f"--{'directory' if place.is_dir() else 'file'}={place}" for place in places]
    report = json.loads(_checkov(*given, f"--framework={framework}", "--output=json", "--soft-fail"))
    assert report["check_type"] == framework
    assert report["summary"]["passed"] > 0
    return {check["check_id"] for check in report["results"]["failed_checks"]}


def _checkov(*arguments: str) -> str:
    program = _environment() / "bin" / "checkov"
    return run(str(program), *arguments, "--skip-download", "--quiet", environment={"LOG_LEVEL": "ERROR"})


def _environment() -> Path:
    lock = (PROJECT / "uv.lock").read_bytes()
    folder = cache() / "checkov" / hashlib.sha256(lock).hexdigest()[:16]
    with one_at_a_time("checkov"):
        if not (folder / "ready").exists():
            say("installing checkov, once …")
            uv = shutil.which("uv") or str(OURS)
            environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(folder)}
            run(
                uv, "sync", "--frozen", "--quiet", f"--project={PROJECT}", within=500, environment=environment
            )
            (folder / "ready").touch()
    return folder
