"""Kinds that a Kubernetes has only where somebody installed them, as their projects release them."""

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


def define(site: Site) -> None:
    for module, file in FOREIGN:
        site.define(module_folder(DEFINITIONS, module) / file)
