"""What is given to KServe is what its API takes: unknown fields are refused."""

import os
from pathlib import Path

import pytest

from chart import foreign
from chart.site import Site
from cluster.build import binary
from documents import ROOT, Typist, said

pytestmark = pytest.mark.apiserver


def test_the_definition_of_kserve_takes_the_sample(site: Site) -> None:
    foreign.define(site, [foreign.KSERVE])
    typist = Typist(ROOT)
    path = os.pathsep.join([str(Path(binary("kubectl")).parent), os.environ["PATH"]])
    typist.environment |= {"PATH": path, "KUBECONFIG": str(site.server.kubeconfig)}
    typist.type(said("docs/how-to/serve.md", "KServe"))
    assert served_from(site).startswith("s3://")
    uri = "s3://bucket/runs/exports/made"
    site.kubectl("create", "configmap", "emollm", f"--from-literal=MERGED_URI={uri}")
    typist.type(said("docs/how-to/serve.md", "A ConfigMap for others", 1))
    assert served_from(site) == uri


def served_from(site: Site) -> str:
    (server,) = site.get("inferenceservices")["items"]
    return str(server["spec"]["predictor"]["model"]["storageUri"])
