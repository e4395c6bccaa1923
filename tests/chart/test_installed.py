"""The charts on a real API server: what is accepted, granted, upgraded, kept and refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders import document
from chart import foreign
from chart.helm import CHARTS, NAMESPACE, OPERATOR, TENANT, Object, at, render
from chart.permissions import EVERYWHERE, SERVED
from chart.site import Site
from chart.variants import ANN, VARIANTS
from cluster.process import CommandError
from e2e import previous
from lorafinetune.api.crd import crd

pytestmark = pytest.mark.apiserver

CRD = crd()["metadata"]["name"]
TUNER = {"scheduling": {"serviceAccountName": "tuner"}}
OPEN: Object = {"networkPolicy": {"enabled": False}}
RUNS = "lorafinetunes.lorafinetune.dev"
OPERATORS, TUNERS = f"system:serviceaccount:{NAMESPACE}:lorafinetune", "system:serviceaccount:team-a:tuner"
MAY = [
    (OPERATORS, f"watch {RUNS}"),
    (OPERATORS, f"update {RUNS} --subresource=status"),
    (OPERATORS, "create jobs.batch"),
    (OPERATORS, "list pods"),
    ("ann", f"create {RUNS}"),
    ("ann", f"delete {RUNS}"),
    ("ann", "get secrets/s3"),
    ("ann", "use serviceaccounts/tuner"),
    ("bob", f"watch {RUNS}"),
]
MAY_NOT = [
    (OPERATORS, "get secrets"),
    (OPERATORS, "list secrets"),
    (OPERATORS, "create pods"),
    (OPERATORS, "delete pods"),
    (OPERATORS, "create pods --subresource=exec"),
    (OPERATORS, "get pods --subresource=log"),
    (OPERATORS, "create serviceaccounts --subresource=token"),
    (OPERATORS, "create rolebindings.rbac.authorization.k8s.io"),
    (OPERATORS, "impersonate users"),
    (OPERATORS, f"update {RUNS}"),
    (OPERATORS, f"delete {RUNS}"),
    (OPERATORS, "list configmaps"),
    (TUNERS, f"get {RUNS}"),
    (TUNERS, "get secrets/s3"),
    (TUNERS, "create pods"),
    ("ann", f"update {RUNS} --subresource=status"),
    ("ann", f"create {RUNS} --namespace=team-b"),
    ("ann", "create jobs.batch"),
    ("ann", "create pods"),
    ("ann", "get secrets/another"),
    ("ann", "list secrets"),
    ("ann", "use serviceaccounts/default"),
    ("bob", f"create {RUNS}"),
    ("bob", f"delete {RUNS}"),
    ("bob", "get secrets/s3"),
    ("mallory", f"list {RUNS}"),
]
"""In the namespace team-a, where it is not said: who, and what of whoever that is."""


@pytest.fixture(scope="module")
def installed(site: Site) -> Site:
    """The operator for the whole cluster, in a namespace in which pods must be restricted."""
    site.new_namespace(NAMESPACE)
    site.install("lorafinetune", OPERATOR, NAMESPACE)
    site.kubectl("wait", "--for=condition=Established", f"crd/{CRD}")
    foreign.define(site)
    return site


@pytest.fixture(scope="module")
def teams(installed: Site) -> tuple[str, str]:
    """Two namespaces, in the first of which Ann may edit LoRAFineTunes and Bob may view them."""
    first, second = installed.new_namespace("team-a"), installed.new_namespace("team-b")
    users = {"users": {"edit": [ANN], "view": [{"kind": "User", "name": "bob"}]}, "secrets": ["s3"]}
    installed.install("tenant", TENANT, first, OPEN | users)
    return first, second


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_server_takes_all_that_is_rendered(
    installed: Site, teams: tuple[str, str], variant: str, tmp_path: Path
) -> None:
    applied(installed, render(OPERATOR, VARIANTS[variant]), tmp_path)


def test_the_server_takes_all_of_a_tenant(installed: Site, teams: tuple[str, str], tmp_path: Path) -> None:
    applied(installed, render(TENANT, namespace=teams[0]), tmp_path)


def applied(site: Site, objects: list[Object], folder: Path) -> None:
    """Try to apply objects as a server that knows all fields would; a refusal is an error."""
    together = {"apiVersion": "v1", "kind": "List", "items": objects}
    (folder / "objects.json").write_text(json.dumps(together))
    options = ("--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict")
    said = site.kubectl("apply", *options, f"--filename={folder / 'objects.json'}")
    assert len(said.splitlines()) == len(objects)


def test_the_operator_s_pod_is_restricted(installed: Site) -> None:
    template = at(render(OPERATOR), "Deployment/lorafinetune: spec.template")
    metadata = template["metadata"] | {"name": "one", "namespace": NAMESPACE}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All&fieldValidation=Strict"
    assert json.loads(installed.server.request("POST", path, pod))["metadata"]["name"] == "one"


def test_the_operator_may_do_exactly_this(installed: Site, teams: tuple[str, str]) -> None:
    assert installed.permissions(NAMESPACE, "lorafinetune", inside=teams[0]) == SERVED | EVERYWHERE


def test_a_tenant_s_identity_may_do_nothing(installed: Site, teams: tuple[str, str]) -> None:
    assert installed.permissions(teams[0], "tuner", inside=teams[0]) == set()


def answer(site: Site, who: str, what: str) -> str:
    """Of the API server, to somebody who is taken for them: yes or no."""
    asked = ("auth", "can-i", f"--as={who}", "--namespace=team-a", *what.split())
    return site.refusal(*asked).rpartition("failed: ")[2] or "yes"


@pytest.mark.parametrize(("who", "what"), MAY)
def test_may(installed: Site, teams: tuple[str, str], who: str, what: str) -> None:
    assert answer(installed, who, what) == "yes"


@pytest.mark.parametrize(("who", "what"), MAY_NOT)
def test_may_not(installed: Site, teams: tuple[str, str], who: str, what: str) -> None:
    assert answer(installed, who, what) == "no"


def test_who_may_edit_creates_a_lorafinetune_but_no_job(
    installed: Site, teams: tuple[str, str], tmp_path: Path
) -> None:
    job = {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}}}
    made = {
        "tune": document(TUNER, name="anns", namespace=teams[0]),
        "job": {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "anns"}, "spec": job},
    }
    files = {name: tmp_path / f"{name}.json" for name in made}
    for name, content in made.items():
        files[name].write_text(json.dumps(content))
    create = ("create", f"--namespace={teams[0]}")
    with pytest.raises(CommandError, match='User "bob" cannot create resource "lorafinetunes"'):
        installed.kubectl(*create, "--as=bob", f"--filename={files['tune']}")
    assert "anns created" in installed.kubectl(*create, "--as=ann", f"--filename={files['tune']}")
    assert "anns" in installed.kubectl("get", "lft", f"--namespace={teams[0]}", "--as=bob")
    with pytest.raises(CommandError, match='User "ann" cannot create resource "jobs"'):
        installed.kubectl(*create, "--as=ann", f"--filename={files['job']}")


def test_operators_side_by_side_have_their_own_namespaces(installed: Site, teams: tuple[str, str]) -> None:
    places = [installed.new_namespace(f"operator-{team}") for team in teams]
    for place, team in zip(places, teams, strict=True):
        values = {"crds": {"install": False}, "watch": {"namespaces": [team]}}
        installed.install("lorafinetune", OPERATOR, place, values)
    for place, served, other in zip(places, teams, reversed(teams), strict=True):
        assert installed.permissions(place, "lorafinetune", inside=served) == SERVED | EVERYWHERE
        assert installed.permissions(place, "lorafinetune", inside=other) == EVERYWHERE
    with pytest.raises(CommandError, match='Role "lorafinetune-operator" in namespace "team-a" exists'):
        installed.install("third", OPERATOR, places[0], values | {"watch": {"namespaces": [teams[0]]}})


def test_a_certificate_is_kept_until_it_is_to_be_another(installed: Site) -> None:
    place = installed.new_namespace("certificates")
    once = {"crds": {"install": False}, "watch": {"namespaces": [place]}}

    def certificate(**values: Any) -> Object:
        installed.install("lorafinetune", OPERATOR, place, once | values)
        data: Object = installed.get("secret", "lorafinetune-tls", f"--namespace={place}")["data"]
        return data

    first = certificate()
    assert certificate(logFormat="text") == first
    second = certificate(tls={"rotation": "2"})
    assert not set(second.values()) & set(first.values())
    assert certificate(tls={"rotation": "2"}, logFormat="text") == second


def chart_with_one_column(folder: Path) -> Path:
    """This chart as if its definition had but one column."""
    chart = Path(shutil.copytree(CHARTS / OPERATOR, folder / OPERATOR))
    file = chart / "files" / "lorafinetunes.yaml"
    definition = yaml.safe_load(file.read_text())
    version = definition["spec"]["versions"][0]
    version["additionalPrinterColumns"] = version["additionalPrinterColumns"][:1]
    file.write_text(json.dumps(definition))
    return chart


def test_an_upgrade_brings_the_new_definition(installed: Site, tmp_path: Path) -> None:
    installed.install("lorafinetune", chart_with_one_column(tmp_path), NAMESPACE)
    assert len(columns(installed)) == 1
    installed.install("lorafinetune", OPERATOR, NAMESPACE)
    assert columns(installed) == crd()["spec"]["versions"][0]["additionalPrinterColumns"]


def test_the_chart_of_before_upgrades_to_this_one(installed: Site) -> None:
    if not (commit := previous.commit()):
        pytest.skip(previous.MISSING)
    with previous.checked_out(commit) as folder:
        installed.install("lorafinetune", folder / "charts" / OPERATOR, NAMESPACE)
    installed.install("lorafinetune", OPERATOR, NAMESPACE)
    assert (
        installed.get("crd", CRD)["spec"]["versions"][0]["schema"] == crd()["spec"]["versions"][0]["schema"]
    )


def columns(site: Site) -> list[Object]:
    found: list[Object] = site.get("crd", CRD)["spec"]["versions"][0]["additionalPrinterColumns"]
    return found


def test_a_removal_leaves_what_is_the_users(installed: Site) -> None:
    tune = document(name="kept", namespace="default")
    path = "/apis/lorafinetune.dev/v1alpha1/namespaces/default/lorafinetunes"
    installed.server.request("POST", path, tune)
    installed.helm("uninstall", "lorafinetune", f"--namespace={NAMESPACE}")
    assert installed.get("lorafinetune", "kept")["spec"]["model"] == tune["spec"]["model"]
    assert installed.get("clusterrole", "lorafinetune-edit", "lorafinetune-view")["items"]
    kinds = "deployment,service,secret,serviceaccount,networkpolicy,poddisruptionbudget"
    selector = "--selector=app.kubernetes.io/name=lorafinetune"
    assert installed.get(kinds, f"--namespace={NAMESPACE}", selector)["items"] == []
    installed.install("lorafinetune", OPERATOR, NAMESPACE)
    assert installed.get("deployment", "lorafinetune", f"--namespace={NAMESPACE}")
