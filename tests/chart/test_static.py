"""What tools say of the charts, and what must agree with what else is in the repository."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart import scanner
from chart.helm import CHARTS, NEEDED, OPERATOR, TENANT, given, helm, render
from chart.made import FULLEST, made_of
from chart.renew import PAGE, made
from chart.variants import VARIANTS
from cluster.sources import SOURCES
from exceptions import exempted
from lorafinetune.api.crd import crd

BOTH = (OPERATOR, TENANT)
RENEW = "run `PYTHONPATH=tests python -m chart.renew`, and look at the diff"
DEFINITION = f"CustomResourceDefinition/{crd()['metadata']['name']}"


def read(chart: str, file: str) -> Any:
    return yaml.safe_load((CHARTS / chart / file).read_text())


@pytest.mark.parametrize("chart", BOTH)
def test_helm_has_nothing_to_complain_of(chart: str) -> None:
    version = SOURCES["kube-apiserver"].version()
    said = helm("lint", "--strict", str(CHARTS / chart), f"--kube-version={version}", *given(NEEDED[chart]))
    assert "1 chart(s) linted, 0 chart(s) failed" in said


def charts(folder: Path) -> list[Path]:
    file = folder / "rendered.yaml"
    operators = [one for values in VARIANTS.values() for one in render(OPERATOR, values)]
    file.write_text(yaml.safe_dump_all([*operators, *render(TENANT)]))
    return [file]


def jobs(folder: Path) -> list[Path]:
    """Of a resource that asks for nothing, and of one that asks for everything."""
    files = {folder / "least.yaml": {}, folder / "fullest.yaml": FULLEST}
    for file, spec in files.items():
        file.write_text(yaml.safe_dump_all(made_of(spec)))
    return [*files]


SCANNED: dict[str, Callable[[Path], list[Path]]] = {
    "kubernetes": charts,
    "jobs": jobs,
    "dockerfile": lambda _: sorted((CHARTS.parent / "images").glob("*/Dockerfile")),
    "github_actions": lambda _: [CHARTS.parent / ".github" / "workflows"],
}

BY_TRIVY = {"kubernetes", "jobs", "dockerfile"}


def framework(place: str) -> str:
    """What checkov and trivy call it."""
    return "kubernetes" if place == "jobs" else place


@pytest.mark.parametrize("place", SCANNED)
def test_checkov_fails_exactly_what_is_explained(place: str, tmp_path: Path) -> None:
    found = scanner.checkov(framework(place), *SCANNED[place](tmp_path))
    assert found == {rule for rule, where in exempted("checkov") if where == place}


@pytest.mark.parametrize("place", sorted(BY_TRIVY))
def test_trivy_fails_exactly_what_is_explained(place: str, tmp_path: Path) -> None:
    found = scanner.trivy(framework(place), *SCANNED[place](tmp_path))
    assert found == {rule for rule, where in exempted("trivy") if where == place}


def test_nothing_is_explained_that_they_do_not_look_at() -> None:
    assert {place for _, place in exempted("checkov")} <= SCANNED.keys()
    assert {place for _, place in exempted("trivy")} <= BY_TRIVY


def test_what_is_made_from_the_charts_is_up_to_date() -> None:
    for file, content in made().items():
        assert file.read_text() == content, RENEW


def test_every_value_is_explained() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    assert [row for row in rows if row.endswith("|  |")] == []


@pytest.mark.parametrize("chart", BOTH)
def test_every_value_that_the_schema_knows_stands_in_the_values(chart: str) -> None:
    assert undocumented(read(chart, "values.schema.json"), read(chart, "values.yaml")) == {"global"}


def undocumented(schema: Any, values: Any, path: str = "") -> set[str]:
    found: set[str] = set()
    for name, child in schema.get("properties", {}).items():
        if name not in values:
            found.add(f"{path}{name}")
        elif values[name] and isinstance(values[name], dict):
            found |= undocumented(child, values[name], f"{path}{name}.")
    return found


@pytest.mark.parametrize("chart", BOTH)
def test_its_version_is_the_product_s(chart: str) -> None:
    product = tomllib.loads((CHARTS.parent / "pyproject.toml").read_text())["project"]["version"]
    assert read(chart, "Chart.yaml")["version"] == product


def test_the_operator_s_image_is_the_product_s_version() -> None:
    about = read(OPERATOR, "Chart.yaml")
    assert about["appVersion"] == about["version"]


def test_the_definition_is_the_one_of_the_typed_models() -> None:
    rendered = next(one for one in render(OPERATOR) if one["kind"] == "CustomResourceDefinition")
    assert rendered["spec"] == crd()["spec"]
