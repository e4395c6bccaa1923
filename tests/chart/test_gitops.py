"""What delivery tools are given: kustomize and helm make of it what a cluster takes, and takes again."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.helm import CHARTS, NAMESPACE, OPERATOR, Object, Values, given, helm
from chart.site import Site
from cluster.build import binary
from cluster.process import CommandError, run
from cluster.sources import SOURCES
from documents import said
from lorafinetune.api.codec import decode

ROOT = CHARTS.parent
SAMPLES = ROOT / "samples" / "gitops"
TEAM = "team-a"
SECRET = "AWS_ACCESS_KEY_ID=key\nAWS_SECRET_ACCESS_KEY=secret\n"


def kustomize(folder: Path) -> list[Object]:
    return list(yaml.safe_load_all(run(str(binary("kubectl")), "kustomize", str(folder))))


def of_kind(file: str, kind: str) -> list[Any]:
    documents = yaml.safe_load_all((SAMPLES / file).read_text())
    return [one for one in documents if one["kind"] == kind]


def values_of_argo_cd() -> Values:
    operator, _ = of_kind("argocd.yaml", "Application")
    return dict(operator["spec"]["source"]["helm"]["valuesObject"])


def values_of_flux() -> Values:
    (release,) = of_kind("flux-operator.yaml", "HelmRelease")
    return dict(release["spec"]["values"])


def type_in_root(commands: str, **environment: str) -> str:
    path = os.pathsep.join([str(Path(binary("kubectl")).parent), os.environ["PATH"]])
    script = f"cd {ROOT}\nset -eo pipefail\n{commands}"
    return run("bash", "-c", script, environment={"PATH": path} | environment, name=commands)


def test_a_team_s_fine_tuning_is_the_common_one_with_its_own_data() -> None:
    (found,) = kustomize(SAMPLES / "fine-tunes" / TEAM)
    run_of_team = decode(found)
    assert run_of_team.metadata.namespace == TEAM
    assert run_of_team.spec.storage.uri == "s3://finetunes/team-a"
    (dataset,) = run_of_team.spec.datasets
    assert (dataset.source, dataset.format, dataset.max_samples) == ("s3://team-a/rows.jsonl", "alpaca", 5000)


def test_a_fine_tuning_follows_the_name_of_a_secret_that_kustomize_makes(tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "fine-tunes", tmp_path / "fine-tunes")
    overlay = tmp_path / "fine-tunes" / TEAM
    (overlay / "s3.env").write_text(SECRET)
    file = overlay / "kustomization.yaml"
    file.write_text(file.read_text() + "secretGenerator: [{name: s3, envs: [s3.env]}]\n")
    made = {one["kind"]: one for one in kustomize(overlay)}
    name = made["Secret"]["metadata"]["name"]
    assert name.startswith("s3-")
    assert made["LoRAFineTune"]["spec"]["connections"][0]["secretRef"]["name"] == name


def test_what_is_to_be_merged_is_validated() -> None:
    assert "is valid" in type_in_root(said("docs/how-to/gitops.md", "Kustomize"))


@pytest.mark.parametrize("values", [values_of_argo_cd, values_of_flux], ids=["Argo CD", "Flux"])
def test_a_tool_that_renders_the_chart_again_finds_no_difference(values: Callable[[], Values]) -> None:
    first = rendered(values())
    assert first == rendered(values())
    assert "kind: Secret" not in first


def test_with_nothing_said_of_certificates_it_would() -> None:
    assert rendered({}) != rendered({})


def test_both_tools_install_the_same() -> None:
    assert rendered(values_of_argo_cd()) == rendered(values_of_flux())


def rendered(values: Values) -> str:
    version = SOURCES["kube-apiserver"].version()
    where = (f"--namespace={NAMESPACE}", f"--kube-version={version}")
    return helm("template", OPERATOR, str(CHARTS / OPERATOR), *where, *given(values))


@pytest.mark.apiserver
def test_what_was_applied_differs_in_nothing_though_defaults_were_added(site: Site) -> None:
    site.define(ROOT / "crds")
    site.new_namespace(TEAM)
    kubeconfig = str(site.server.kubeconfig)
    apply_and_diff = said("docs/how-to/gitops.md", "Kustomize", 1)
    type_in_root(apply_and_diff, KUBECONFIG=kubeconfig)
    stored = site.get("lft", "assistant", f"--namespace={TEAM}")
    assert stored["spec"]["datasets"][0]["onBadRow"] == "fail"
    difference = apply_and_diff.splitlines()[-1]
    edit(site, {"suspend": True})
    assert type_in_root(difference, KUBECONFIG=kubeconfig) == ""
    edit(site, {"training": {"maxSteps": 9}})
    with pytest.raises(CommandError, match=r"conflict.*\n?.*spec\.training\.maxSteps"):
        type_in_root(difference, KUBECONFIG=kubeconfig)


def edit(site: Site, spec: Object) -> None:
    """By hand, beside what lies in Git."""
    patch = json.dumps({"spec": spec})
    site.kubectl("patch", "lft", "assistant", f"--namespace={TEAM}", "--type=merge", f"--patch={patch}")
