"""A release can be made again from its tag, by somebody else and on another day, and is the same.

Without the images: to build them takes minutes. That they repeat is tried in `tests/e2e/test_building.py`.
"""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from chart.helm import CHARTS, OPERATOR, TENANT, helm
from cluster.build import binary
from cluster.process import Process, fetch, free_port, run
from documents import ROOT

LOCKED: Final = ("pyproject.toml", "uv.lock")
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSION: Final[str] = PROJECT["project"]["version"]
MADE: Final = {
    "NOTES.md",
    "SHA256SUMS",
    f"lorafinetune-{VERSION}-py3-none-any.whl",
    f"{OPERATOR}-{VERSION}.tgz",
    f"{TENANT}-{VERSION}.tgz",
    "operator.cdx.json",
    "download.cdx.json",
    "train.cdx.json",
}


def clone(source: Path, folder: Path) -> Path:
    """With our environment, which is not to be made anew for it."""
    run("git", "clone", "--quiet", str(source), str(folder))
    (folder / ".git" / "info" / "exclude").write_text(".venv\n")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    for name in LOCKED:
        os.utime(folder / name, (0, 0))
    return folder


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=releaser", "-c", "user.email=releaser@example.com")
    return run("git", "-C", str(folder), *who, *arguments)


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone whose last commit says what is new, and has the tag."""
    folder = clone(ROOT, tmp_path_factory.mktemp("tagged") / "clone")
    changes = folder / "CHANGELOG.md"
    changes.write_text(changes.read_text().replace("## Unreleased", f"## {VERSION}"))
    git(folder, "commit", "--quiet", "--all", "--message=Release")
    git(folder, "tag", "--annotate", "--force", "--message=Release", f"v{VERSION}")
    return folder


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    uv = Path(sys.executable).with_name("uv")
    return subprocess.run(
        ["make", "-s", *arguments, f"UV={uv}"],  # noqa: S607 - whichever make a person has
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def made(tagged: Path) -> Path:
    done = make(tagged, "release")
    assert done.returncode == 0, done.stderr
    return tagged / "dist"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    server = Process([str(binary("registry")), f"-port={port}"], tmp_path / "registry.log")
    server.start(lambda: fetch(f"http://localhost:{port}/v2/"))
    yield f"localhost:{port}"
    server.stop()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_has_everything_but_the_images(made: Path) -> None:
    assert contents(made).keys() == MADE


def test_made_again_it_is_the_same(made: Path, tagged: Path, tmp_path: Path) -> None:
    again = clone(tagged, tmp_path / "elsewhere")
    run("chmod", "--recursive", "go=", str(again))
    done = make(again, "release")
    assert done.returncode == 0, done.stderr
    assert contents(again / "dist") == contents(made)


def test_its_notes_are_what_the_change_log_says(made: Path) -> None:
    notes = (made / "NOTES.md").read_text()
    assert notes.strip()
    assert f"## {VERSION}\n{notes}" in (made.parent / "CHANGELOG.md").read_text()


def test_its_checksums_are_right(made: Path) -> None:
    run("sh", "-c", f"cd {made} && sha256sum --check --strict SHA256SUMS")
    assert {line.split()[1] for line in (made / "SHA256SUMS").read_text().splitlines()} == MADE - {
        "SHA256SUMS"
    }


def test_a_registry_gives_the_charts_back_as_they_are(made: Path, registry: str, tmp_path: Path) -> None:
    done = make(made.parent, "push", "IMAGES=", f"REGISTRY={registry}/ml", "PUSH_OPTIONS=--plain-http")
    assert done.returncode == 0, done.stderr
    for chart in (OPERATOR, TENANT):
        place = f"oci://{registry}/ml/charts/{chart}"
        helm("pull", place, f"--version={VERSION}", "--plain-http", f"--destination={tmp_path}")
        file = f"{chart}-{VERSION}.tgz"
        assert (tmp_path / file).read_bytes() == (made / file).read_bytes()


@pytest.mark.parametrize("chart", [OPERATOR, TENANT])
def test_helm_reads_the_chart_that_was_packed_again(made: Path, chart: str) -> None:
    packed = yaml.safe_load(helm("show", "chart", str(made / f"{chart}-{VERSION}.tgz")))
    assert packed == yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())


def test_the_tool_that_makes_the_wheel_is_the_one_that_is_locked() -> None:
    assert PROJECT["dependency-groups"]["release"] == PROJECT["build-system"]["requires"]


def test_it_is_made_of_nothing_but_a_clean_tag(tagged: Path, tmp_path: Path) -> None:
    folder = clone(tagged, tmp_path / "clone")
    (folder / "README.md").write_text("changed")
    assert "changes that are in no commit:\n M README.md" in refused(folder)
    git(folder, "commit", "--quiet", "--all", "--message=After it")
    assert f"HEAD is not v{VERSION}" in refused(folder)


def test_it_is_not_made_before_the_changes_are_told(tmp_path: Path) -> None:
    folder = clone(ROOT, tmp_path / "clone")
    git(folder, "tag", "--force", f"v{VERSION}")
    if f"## {VERSION}" not in (folder / "CHANGELOG.md").read_text().splitlines():
        assert f"CHANGELOG.md has no heading '## {VERSION}'" in refused(folder)


def refused(folder: Path) -> str:
    done = make(folder, "release")
    assert done.returncode != 0
    assert not (folder / "dist").exists()
    return done.stderr
