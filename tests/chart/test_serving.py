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
    (server,) = site.get("inferenceservices")["items"]
    assert server["spec"]["predictor"]["model"]["storageUri"].startswith("s3://")
