"""kubeconform, with the schemas of a real API server, has nothing to say of the charts and the samples."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chart import foreign, schemas
from chart.helm import CHARTS, OPERATOR, TENANT, Object, render
from chart.site import Site
from chart.variants import VARIANTS
from cluster.build import binary
from cluster.process import CommandError, run

pytestmark = pytest.mark.apiserver

SAMPLES = sorted((CHARTS.parent / "samples").glob("*.yaml"))


@dataclass(frozen=True)
class Kubeconform:
    location: str
    folder: Path

    def check(self, file: Path) -> Any:
        """The counts of what is valid and what was left out; what is invalid is a CommandError."""
        options = (
            "-strict",
            "-summary",
            "-output=json",
            f"-schema-location={self.location}",
        )
        return json.loads(run(str(binary("kubeconform")), *options, str(file)))["summary"]

    def check_objects(self, objects: list[Object]) -> Any:
        file = self.folder / "objects.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        return self.check(file)


@pytest.fixture(scope="module")
def kubeconform(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Kubeconform:
    site.define(CHARTS.parent / "crds")
    foreign.define(site)
    folder = tmp_path_factory.mktemp("schemas")
    return Kubeconform(schemas.write(site.server, folder), folder)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_the_operator_s_chart_renders_is_valid(kubeconform: Kubeconform, variant: str) -> None:
    objects = render(OPERATOR, VARIANTS[variant])
    found = kubeconform.check_objects(objects)
    assert (found["valid"], found["skipped"]) == (len(objects), 0)


def test_what_the_tenant_s_chart_renders_is_valid(kubeconform: Kubeconform) -> None:
    assert kubeconform.check_objects(render(TENANT))["valid"] == len(render(TENANT))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda file: file.name)
def test_the_samples_are_valid(kubeconform: Kubeconform, sample: Path) -> None:
    assert kubeconform.check(sample)["valid"] == 1


@pytest.mark.parametrize(
    "kind", ["Deployment", "Service", "LoRAFineTune", "ServiceMonitor", "PrometheusRule"]
)
def test_a_field_that_there_is_not_is_invalid(kubeconform: Kubeconform, kind: str) -> None:
    versions = {
        "Deployment": "apps/v1",
        "Service": "v1",
        "LoRAFineTune": "lorafinetune.dev/v1alpha1",
        "ServiceMonitor": "monitoring.coreos.com/v1",
        "PrometheusRule": "monitoring.coreos.com/v1",
    }
    wrong = {"apiVersion": versions[kind], "kind": kind, "metadata": {"name": "a"}, "sepc": {}}
    with pytest.raises(CommandError, match="additional properties 'sepc' not allowed"):
        kubeconform.check_objects([wrong])
