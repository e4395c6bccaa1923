"""Kinds that a Kubernetes has only where somebody installed them, as their projects release them."""

from collections.abc import Iterable
from typing import Final

from chart.site import Site
from cluster.build import module_folder
from cluster.sources import DEFINITIONS

PROMETHEUS: Final = "github.com/prometheus-operator/prometheus-operator"
FOREIGN: Final = (
    ("github.com/cert-manager/cert-manager", "deploy/crds/cert-manager.io_certificates.yaml"),
    (PROMETHEUS, "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"),
    (PROMETHEUS, "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"),
)
"""Go module and file of each definition."""
KSERVE: Final = ("github.com/kserve/kserve", "config/crd/full/serving.kserve.io_inferenceservices.yaml")
"""What serves a merged model."""


def define(site: Site, kinds: Iterable[tuple[str, str]] = FOREIGN) -> None:
    for module, file in kinds:
        site.define(module_folder(DEFINITIONS, module) / file)
