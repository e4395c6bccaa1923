"""A release can be made again from its tag, by somebody else and on another day, and is the same; and who
installs it runs its own images.

The images have next to nothing in them, for to build what they hold takes minutes. That they repeat is tried
in `tests/e2e/test_building.py`.
"""

import hashlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from chart.helm import CHARTS, OPERATOR, RELEASE, TENANT, at, helm
from cluster import images, packages
from cluster.build import binary
from cluster.process import Process, fetch, free_port, run
from cluster.product import NAMES
from documents import REGISTRY, ROOT, Typist, replaced, said

UV: Final = str(Path(sys.executable).with_name("uv"))
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
DIGESTS: Final = {f"{name}.digest" for name in NAMES}
DOCKERFILE: Final = "FROM scratch\nCOPY images/{name}/Dockerfile /\n"
BY_HAND: Final = ("env", "--unset=MAKEFLAGS", "--unset=MFLAGS", "--unset=MAKELEVEL")


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


def tag(folder: Path) -> Path:
    """Commit what has changed, and make a release of it."""
    git(folder, "commit", "--quiet", "--all", "--message=Release")
    git(folder, "tag", "--annotate", "--force", "--message=Release", f"v{VERSION}")
    return folder


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone whose last commit says what is new, and has the tag."""
    folder = clone(ROOT, tmp_path_factory.mktemp("tagged") / "clone")
    changes = folder / "CHANGELOG.md"
    changes.write_text(changes.read_text().replace("## Unreleased", f"## {VERSION}"))
    return tag(folder)


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-s", *arguments, f"UV={UV}"],  # noqa: S607 - whichever make a person has
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def made(tagged: Path) -> Path:
    """What is left by the page's command."""
    releaser = Typist(tagged)
    releaser.environment["UV"] = UV
    releaser.type(said("docs/how-to/release.md", "Make a release"))
    return tagged / "dist"


@contextmanager
def served(log: Path) -> Iterator[str]:
    """A registry for as long as the block runs."""
    port = free_port()
    server = Process([str(binary("registry")), f"-port={port}"], log)
    server.start(lambda: fetch(f"http://localhost:{port}/v2/"))
    yield f"localhost:{port}"
    server.stop()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with served(tmp_path / "registry.log") as address:
        yield address


@pytest.fixture(scope="module")
def pushed(tagged: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A registry that has the images and charts of a release, and what the release left here."""
    if os.geteuid() != 0:
        pytest.skip("only root builds images: run it as root")
    packages.become_administrator()
    packages.ensure({"buildah": "buildah"})
    place = tmp_path_factory.mktemp("pushed")
    folder = clone(tagged, place / "clone")
    for name in NAMES:
        (folder / "images" / name / "Dockerfile").write_text(DOCKERFILE.format(name=name))
    tag(folder)
    with served(place / "registry.log") as address:
        release = ("make", "-s", "release", f"REGISTRY={address}/ml", "PUSH_OPTIONS=--plain-http")
        build(f"{address}/ml", folder, *release)
        yield f"{address}/ml", folder / "dist"


def build(registry: str, folder: Path, *command: str) -> None:
    """Run what pushes images to a registry, as the forge does it, but that this one speaks without TLS."""
    host, _, _ = registry.partition("/")
    trusting = folder.parent / "registries.conf"
    trusting.write_text(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
    there = (f"--chdir={folder}", f"CONTAINERS_REGISTRIES_CONF={trusting}", "BUILDER=buildah")
    images.with_images(*BY_HAND, *there, *command)
    images.with_images("buildah", "rmi", *(f"{registry}/{name}:{VERSION}" for name in NAMES))


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
    done = make(made.parent, "push", f"REGISTRY={registry}/ml", "PUSH_OPTIONS=--plain-http")
    assert done.returncode == 0, done.stderr
    for chart in (OPERATOR, TENANT):
        place = f"oci://{registry}/ml/charts/{chart}"
        helm("pull", place, f"--version={VERSION}", "--plain-http", f"--destination={tmp_path}")
        file = f"{chart}-{VERSION}.tgz"
        assert (tmp_path / file).read_bytes() == (made / file).read_bytes()


def installed(registry: str, folder: Path) -> list[dict[str, Any]]:
    """What the released chart of the operator stands for, with no value given."""
    place = f"oci://{registry}/charts/{OPERATOR}"
    helm("pull", place, f"--version={VERSION}", "--plain-http", f"--destination={folder}")
    archive = str(folder / f"{OPERATOR}-{VERSION}.tgz")
    return list(yaml.safe_load_all(helm("template", RELEASE, archive, "--kube-version=1.34.0")))


def test_who_installs_a_release_runs_the_images_that_it_built(
    pushed: tuple[str, Path], tmp_path: Path
) -> None:
    registry, made = pushed
    assert contents(made).keys() == MADE | DIGESTS
    (container,) = at(installed(registry, tmp_path), f"Deployment/{RELEASE}: spec.template.spec.containers")
    variables = {one["name"]: one.get("value") for one in container["env"]}
    host, _, prefix = registry.partition("/")
    for name, image in {
        "operator": container["image"],
        "download": variables["LORAFINETUNE_DOWNLOAD_IMAGE"],
        "train": variables["LORAFINETUNE_TRAIN_IMAGE"],
    }.items():
        digest = (made / f"{name}.digest").read_text()
        assert image == f"{registry}/{name}@{digest}"
        manifest = fetch(f"http://{host}/v2/{prefix}/{name}/manifests/{digest}")
        assert digest == f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def test_the_page_s_command_pushes_the_images(pushed: tuple[str, Path]) -> None:
    """To a place of their own beside those of the release."""
    host, folder = pushed[0].partition("/")[0], pushed[1].parent
    command = said("docs/how-to/build-images.md", "Build the images")
    build(f"{host}/alone", folder, "bash", "-euc", replaced(command, {REGISTRY: f"{host}/alone"}))
    for name in NAMES:
        found = json.loads(fetch(f"http://{host}/v2/alone/{name}/tags/list"))
        assert found["tags"] == [VERSION]


def test_without_a_registry_it_is_said_that_images_go_by_their_version(tagged: Path) -> None:
    done = make(tagged, "--dry-run", "release")
    assert "no REGISTRY: no image is built, and the charts name images by their version" in done.stdout


def test_a_digest_takes_its_place_and_changes_nothing_else(tmp_path: Path) -> None:
    values, digest = tmp_path / "values.yaml", tmp_path / "train.digest"
    before = (
        "# -- Where\nimages:\n  registry: localhost  # here\n  train: {tag: '', digest: \"\"}\nother: 1\n"
    )
    values.write_text(before)
    digest.write_text("sha256:12")
    run(sys.executable, str(ROOT / "release" / "pin.py"), str(values), "ghcr.io/us", str(digest))
    assert values.read_text() == before.replace("localhost", "ghcr.io/us").replace('""', "sha256:12")


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
