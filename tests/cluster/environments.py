"""Python environments of their own, for what pins so tightly that it shares none with us: each is locked in a
project of its own, and made once for what is in that lock."""

import hashlib
import os
import shutil
from pathlib import Path

from cluster.build import cache, one_at_a_time
from cluster.process import run, say

OURS = Path(__file__).parents[2] / ".uv" / "bin" / "uv"


def environment(project: Path, name: str, python: str = "") -> Path:
    """The environment of a project, made first unless the cache has it. python: its version, where one is
    asked for."""
    lock = (project / "uv.lock").read_bytes()
    folder = cache() / name / hashlib.sha256(lock + python.encode()).hexdigest()[:16]
    with one_at_a_time(name):
        if not (folder / "ready").exists():
            say(f"installing {name}, once …")
            uv = shutil.which("uv") or str(OURS)
            set_up = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(folder)}
            options = [f"--project={project}", *([f"--python={python}"] if python else [])]
            run(uv, "sync", "--frozen", "--quiet", *options, within=500, environment=set_up)
            (folder / "ready").touch()
    return folder
