"""The ConfigMap that says where the outputs of a run are, on a real API server."""

import os
from pathlib import Path
from typing import Any

import pytest

from apiserver.operating import MERGE, Namespace, Object, Operator
from builders import artifact
from cluster.apiserver import ApiServer
from cluster.build import binary
from cluster.client import ApiError
from documents import Typist, said


def asks(name: str | None) -> dict[str, Any]:
    return {"export": {"merged": {}, "configMap": {"name": name} if name else None}}


def found(runs: Namespace, name: str) -> Object:
    """The ConfigMap; empty where there is none."""
    return next((each for each in runs.items("configmaps") if each["metadata"]["name"] == name), {})


def kept(runs: Namespace, name: str, config_map: str) -> Object:
    """The ConfigMap, once the status of the run says that it is there."""
    runs.wait(lambda: runs.status(name).get("configMap", {}).get("name") == config_map)
    return found(runs, config_map)


def test_it_is_there_once_the_run_is_complete_and_goes_with_the_run(runs: Namespace) -> None:
    runs.apply("handed", asks("handed-over"))
    for stage in ("download", "prepare", "train"):
        runs.finish("handed", stage)
        assert not found(runs, "handed-over")
    runs.finish("handed", "export")
    runs.until("handed", "Complete")
    told = kept(runs, "handed", "handed-over")["data"]
    status = runs.status("handed")
    assert (told["ADAPTER_URI"], told["MERGED_URI"]) == (artifact("adapter").uri, artifact("merged").uri)
    assert (told["ADAPTER_DIGEST"], told["MERGED_DIGEST"]) == tuple(
        status["artifacts"][each]["digest"] for each in ("adapter", "merged")
    )
    assert told["BASE_MODEL"] == status["model"]["source"]
    assert told["BASE_REVISION"] == status["model"]["revision"]
    assert runs.told("handed", "ConfigMapWritten") == 1
    assert status["configMap"]["outputs"] == [told["ADAPTER_URI"], told["MERGED_URI"]]
    runs.client.request("DELETE", runs.path("lorafinetunes", "handed"))
    runs.wait(lambda: not found(runs, "handed-over"))


def test_it_follows_the_field(runs: Namespace) -> None:
    runs.apply("follows", asks(None))
    runs.finish_all("follows")
    runs.edit("follows", asks("first"))
    assert kept(runs, "follows", "first")
    runs.edit("follows", asks("second"))
    assert kept(runs, "follows", "second")
    assert not found(runs, "first")
    runs.edit("follows", asks(None))
    runs.wait(lambda: "configMap" not in runs.status("follows"))
    assert not found(runs, "second")


def test_it_follows_the_outputs_and_keeps_nothing_else(runs: Namespace) -> None:
    runs.apply("changed", asks("outputs"))
    runs.finish_all("changed")
    path = runs.path("configmaps", "outputs")
    kept(runs, "changed", "outputs")
    runs.client.request("PATCH", path, {"data": {"ADAPTER_URI": "s3://elsewhere", "MORE": "x"}}, MERGE)
    runs.edit("changed", {"maxRetries": 5})
    runs.wait(lambda: found(runs, "outputs")["data"]["ADAPTER_URI"] == artifact("adapter").uri)
    assert "MORE" not in found(runs, "outputs")["data"]


def test_one_that_is_not_the_runs_own_is_never_touched(runs: Namespace) -> None:
    foreign = {"metadata": {"name": "foreign"}, "data": {"a": "b"}}
    before = runs.client.request("POST", runs.path("configmaps"), foreign)
    runs.apply("polite", asks("foreign"))
    runs.finish_all("polite")
    runs.wait(lambda: "is not of this run" in runs.status("polite").get("configMap", {}).get("message", ""))
    assert runs.told("polite", "ConfigMapRefused") == 1
    runs.edit("polite", asks(None))
    runs.wait(lambda: "configMap" not in runs.status("polite"))
    there = found(runs, "foreign")
    assert (there["data"], there["metadata"]) == (before["data"], before["metadata"])
    assert runs.condition("polite", "Complete")["status"] == "True"


def test_one_that_can_not_be_changed_is_said(runs: Namespace) -> None:
    run = runs.apply("stuck", asks("immutable"))
    owner = {"apiVersion": run["apiVersion"], "kind": run["kind"], "controller": True}
    owner |= {"name": "stuck", "uid": run["metadata"]["uid"]}
    made = {"metadata": {"name": "immutable", "ownerReferences": [owner]}, "immutable": True}
    runs.client.request("POST", runs.path("configmaps"), made)
    runs.finish_all("stuck")
    runs.wait(lambda: "immutable" in runs.status("stuck").get("configMap", {}).get("message", ""))
    runs.client.request("DELETE", runs.path("configmaps", "immutable"))
    runs.edit("stuck", {"maxRetries": 5})
    assert kept(runs, "stuck", "immutable")["data"]


def test_the_page_s_commands_show_it(
    own_operator: Operator, own_namespace: Namespace, served: ApiServer, tmp_path: Path
) -> None:
    own_operator.start()
    own_namespace.apply("smollm2-emollm", {"export": {"merged": {}}})
    own_namespace.finish_all("smollm2-emollm")
    (tmp_path / "config").write_text(served.kubeconfig.read_text())
    person = Typist(tmp_path)
    path = os.pathsep.join([str(Path(binary("kubectl")).parent), os.environ["PATH"]])
    person.environment |= {"PATH": path, "KUBECONFIG": str(tmp_path / "config")}
    person.type(f"kubectl config set-context --current --namespace={own_namespace.name}")
    shown = person.type(said("docs/how-to/serve.md", "A ConfigMap for others"))
    assert shown.splitlines()[-1] == artifact("merged").uri


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "../secrets"])
def test_a_name_that_leads_elsewhere_is_refused(name: str, own_namespace: Namespace) -> None:
    with pytest.raises(ApiError):
        own_namespace.apply("bad", {"export": {"merged": {}, "configMap": {"name": name}}})
