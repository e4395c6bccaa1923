"""The documentation on a real cluster, typed as it stands: with a sample that trains for fewer steps,
and with the place of our images where the documentation says `registry.example.com`.

It installs the operator itself, so it comes before the tests that find the operator installed.
"""

import json
import secrets
from typing import Any

import pytest

from cluster import images
from cluster.testbed import Cluster
from documents import LONG_WATCH, REGISTRY, ROOT, Typist, checkout, said
from e2e.installation import until

pytestmark = pytest.mark.e2e

OURS = {REGISTRY: images.LOCAL}
STEPS, HALF = 12, 2
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Two threads wait for each other, several times as long as they work where other tests have the cores."""


@pytest.fixture(scope="module")
def typist(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Typist:
    """Somebody who has read the tutorial up to the cluster."""
    if not cluster.is_ours:
        pytest.skip("KUBECONFIG names a cluster that is not the tutorial's")
    sample = {
        "maxSteps: 100": f"maxSteps: {STEPS}\n    seed: {secrets.randbelow(1_000_000)}",
        "everySteps: 25": f"everySteps: {STEPS}",
        "every: 25": f"every: {HALF}",
        "train:\n": 'train:\n      requests: {cpu: "1"}\n',
    }
    with cluster.wanted_no_longer_than_before():
        made = Typist(ROOT)
        made.environment |= ONE_THREAD
        made.type(said("docs/tutorial.md", "The cluster"), within=900)
    made.folder = checkout(tmp_path_factory.mktemp("clone"), sample)
    return made


def resource(typist: Typist) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(typist.type("kubectl get lft smollm2-emollm -o json"))
    return found


def status(typist: Typist) -> dict[str, Any]:
    found: dict[str, Any] = resource(typist).get("status", {})
    return found


def serves(typist: Typist, namespace: str) -> None:
    typist.type(f"kubectl -n {namespace} rollout status deployment/lorafinetune --timeout=120s")


def test_the_operator_and_a_tenant_are_installed(typist: Typist) -> None:
    typist.type(said("docs/how-to/install.md", "The operator"), changed=OURS)
    serves(typist, "lorafinetune-system")
    typist.type(said("docs/how-to/install.md", "A namespace for a team"))


def test_what_nobody_may_exceed_is_set(typist: Typist) -> None:
    typist.type(said("docs/how-to/install.md", "Limits"))
    serves(typist, "lorafinetune-system")


def test_web_servers_are_allowed(typist: Typist) -> None:
    typist.type(said("docs/how-to/install.md", "Datasets from web servers"))
    serves(typist, "lorafinetune-system")


def test_a_second_operator_serves_a_namespace_of_its_own(typist: Typist) -> None:
    typist.type(said("docs/how-to/install.md", "Several operators"), changed=OURS)
    serves(typist, "team-b-operator")
    serves(typist, "lorafinetune-system")


def test_an_upgrade_keeps_the_values_and_a_removal_leaves_nothing(typist: Typist) -> None:
    typist.type(said("docs/how-to/install.md", "Upgrade"))
    serves(typist, "lorafinetune-system")
    typist.type("helm uninstall lorafinetune --namespace team-b-operator")
    typist.type(said("docs/how-to/install.md", "Remove"))
    typist.type(said("docs/how-to/install.md", "Remove", 1))
    typist.type("kubectl delete namespace team-a team-b team-b-operator lorafinetune-system")
    left = typist.type("kubectl get crd,clusterrole,clusterrolebinding,validatingadmissionpolicy -o name")
    assert "lorafinetune" not in left


def test_argo_cd_is_told_of_the_health(typist: Typist) -> None:
    typist.type("kubectl create namespace argocd && kubectl -n argocd create configmap argocd-cm")
    typist.type(said("docs/how-to/gitops.md", "Argo CD"))
    data = json.loads(typist.type("kubectl -n argocd get configmap argocd-cm -o json"))["data"]
    typist.type("kubectl delete namespace argocd")
    assert list(data) == ["resource.customizations.health.lorafinetune.dev_LoRAFineTune"]


def test_the_sample_trains(typist: Typist) -> None:
    typist.type(said("docs/tutorial.md", "The operator"))
    typist.type(said("docs/tutorial.md", "The fine-tuning"), changed=dict([LONG_WATCH]))
    until(lambda: status(typist).get("checkpoint"), 300)


def test_a_training_that_is_killed_goes_on_from_its_checkpoint(typist: Typist) -> None:
    typist.type(said("docs/tutorial.md", "The fine-tuning", 1))
    typist.type(said("docs/tutorial.md", "The fine-tuning", 2), within=900)
    ended = status(typist)
    assert (ended["resumes"], ended["training"]["step"]) == (1, STEPS)


def test_the_model_is_fetched_and_talked_to(typist: Typist) -> None:
    printed = typist.type(said("docs/tutorial.md", "The model"))
    assert (typist.folder / "model" / "model.safetensors").exists()
    assert printed.strip().splitlines()[-1]
    merged = typist.type(said("docs/how-to/serve.md", "Serve what was trained"))
    assert merged.strip() == status(typist)["artifacts"]["merged"]["uri"]


def test_it_is_looked_at_again_by_hand(typist: Typist) -> None:
    typist.type(said("docs/operations.md", "Retrying by hand"))
    wanted = resource(typist)["metadata"]["annotations"]["lorafinetune.dev/refresh"]
    until(lambda: status(typist).get("observedRefresh") == wanted, 30)
    typist.type("kubectl wait --for=condition=Complete --timeout=5m lft/smollm2-emollm")
    looked_again = [stage["cacheHit"] for stage in status(typist)["stages"]]
    assert looked_again == [True, False, False, False], "only the download has sources to look at"


def test_all_of_it_goes(typist: Typist) -> None:
    typist.type("kubectl delete lft smollm2-emollm")
    typist.type("helm uninstall lorafinetune --namespace lorafinetune-system")
    typist.type("kubectl delete crd/lorafinetunes.lorafinetune.dev namespace/lorafinetune-system")
    assert typist.type("kubectl get jobs -o name") == ""
