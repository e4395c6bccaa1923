"""Kinds that a Kubernetes has only where somebody installed them, as their projects release them."""

from collections.abc import Mapping
from typing import Final

from chart.site import Site
from cluster.build import module_folder
from cluster.sources import DEFINITIONS

FOREIGN: Final[Mapping[str, str]] = {
    "github.com/cert-manager/cert-manager": "deploy/crds/cert-manager.io_certificates.yaml",
    "github.com/prometheus-operator/prometheus-operator": (
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"
    ),
}
"""The file of a definition by Go module."""


def define(site: Site) -> None:
    for module, file in FOREIGN.items():
        path = module_folder(DEFINITIONS, module) / file
        site.kubectl("apply", "--server-side", f"--filename={path}")
        site.kubectl("wait", "--for=condition=Established", f"--filename={path}")
