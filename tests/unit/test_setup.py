"""What a machine must have before anything else: the documentation, the package and `make` agree on it."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
NEEDED: Final = ("sh", "make", "echo")


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_the_documentation_names_every_python_that_will_do(document: str) -> None:
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert needs == ">=3.11,<3.15"
    assert "Python 3.11 to 3.14" in " ".join((ROOT / document).read_text().split())


def test_where_no_python_will_do_make_says_which_would_and_downloads_none(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in NEEDED:
        (programs / name).symlink_to(shutil.which(name) or name)
    for name in ("Makefile", "pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(
        [programs / "make", f"UV={Path(sys.executable).with_name('uv')}", ".venv/ready"],
        cwd=tmp_path,
        env={"PATH": str(programs), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout.startswith("no Python from 3.11 to 3.14 is here")
    assert not (tmp_path / ".venv").exists()
