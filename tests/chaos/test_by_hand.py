"""What chaos does by hand, done to a real API server with its controllers and a real store: no pod runs."""

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError

from apiserver.identity import operator_kubeconfig
from apiserver.kube import serve_resource
from apiserver.operating import Namespace, Operator
from chaos import clock, depot, service, upon_cluster, upon_operator, upon_run, upon_store
from chaos.hands import Hands
from chaos.means import Disturbance, Missed
from chaos.upon_network import PROGRESS
from chart.helm import OPERATOR, at, render
from cluster.apiserver import ApiServer
from cluster.client import ApiError
from cluster.controllers import Controllers
from cluster.layout import NODE_NAME
from cluster.machine import hindrance
from cluster.s3server import S3Server
from cluster.testbed import Cluster
from e2e.installation import NAMESPACE, Installation, until
from e2e.jobs import CONTAINER_SECURITY, POD_SECURITY, RESTRICTED
from e2e.tenant import Object, Store
from lorafinetune.core.observed import STAGE_LABEL

pytestmark = pytest.mark.apiserver
POD: Final = {
    "containers": [{"name": "main", "image": "nothing", "securityContext": CONTAINER_SECURITY}],
    "securityContext": POD_SECURITY,
    "restartPolicy": "Never",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One with controllers, and without a node."""
    folder = tmp_path_factory.mktemp("chaos")
    with ApiServer(folder) as made, Controllers(folder, made):
        serve_resource(made)
        yield made


@pytest.fixture(scope="module")
def installation(server: ApiServer) -> Installation:
    """What the chart puts into the cluster, but for pods."""
    made = Installation(Cluster(server.kubeconfig, None, ExitStack()))
    metadata = {"name": NAMESPACE, "labels": RESTRICTED}
    client = made.cluster.client
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    for each in render(OPERATOR):
        if each["kind"] in ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Deployment"):
            client.apply(each)
    return made


@pytest.fixture
def hands(installation: Installation, s3_server: S3Server) -> Hands:
    made = Hands(installation, Store(s3_server, f"bucket-{secrets.token_hex(4)}"), [])
    made.give_secret()
    until(lambda: made.kubectl("get", "serviceaccount", "default", "--ignore-not-found"), 30)
    return made


def uid(hands: Hands, kind: str, name: str) -> str:
    found = json.loads(hands.kubectl("get", kind, name, "--output=json"))
    assert "deletionTimestamp" not in found["metadata"]
    return str(found["metadata"]["uid"])


def new_job(hands: Hands) -> str:
    """A Job of a stage, of which there is a pod."""
    name = f"job-{secrets.token_hex(4)}"
    template = {"metadata": {"labels": {STAGE_LABEL: "train"}}, "spec": POD}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template},
    }
    hands.create(job)
    until(lambda: pods_of(hands, name), 30)
    return name


def pods_of(hands: Hands, job: str) -> list[Object]:
    return [pod for pod in hands.pods() if pod["metadata"]["labels"]["job-name"] == job]


@pytest.mark.parametrize(
    ("kind", "name", "disturbance"),
    [
        pytest.param("secret", "s3", upon_store.secret_again, id="a Secret"),
        pytest.param("lorafinetune", "tune", upon_run.apply_again_at_once, id="a run"),
        pytest.param("lorafinetune", "tune", upon_run.apply_again, id="a run, once it is gone"),
    ],
)
def test_it_is_another_of_the_same_name(hands: Hands, kind: str, name: str, disturbance: Disturbance) -> None:
    hands.apply_run()
    before = uid(hands, kind, name)
    disturbance(hands)
    assert uid(hands, kind, name) != before


def test_a_job_that_is_made_again_by_hand_has_a_pod_of_its_own(hands: Hands) -> None:
    job = new_job(hands)
    before = uid(hands, "job", job), {pod["metadata"]["name"] for pod in pods_of(hands, job)}
    upon_run.job_again(hands)
    assert uid(hands, "job", job) != before[0]
    (pod,) = until(lambda: pods_of(hands, job), 30)
    assert pod["metadata"]["name"] not in before[1]


@pytest.mark.parametrize(
    "disturbance",
    [
        pytest.param(upon_run.delete_pod(phases=upon_run.ENDED), id="deleted"),
        pytest.param(upon_run.evict_pod(phases=upon_run.ENDED), id="evicted"),
    ],
)
@pytest.mark.parametrize("phase", upon_run.ENDED)
def test_of_two_pods_only_the_finished_one_is(hands: Hands, disturbance: Disturbance, phase: str) -> None:
    (ended,), (alive,) = pods_of(hands, new_job(hands)), pods_of(hands, new_job(hands))
    finish(hands, ended, phase)
    disturbance(hands)
    names = until(lambda: gone(hands, ended), 30)
    assert alive["metadata"]["name"] in names


def finish(hands: Hands, pod: Object, phase: str) -> None:
    """Its kubelet says that it has ended; its Job needs it no more."""
    path = f"/api/v1/namespaces/{hands.namespace}/pods/{pod['metadata']['name']}"
    client, merge = hands.installation.cluster.client, "application/merge-patch+json"
    client.request("PATCH", f"{path}/status", {"status": {"phase": phase}}, merge)


def gone(hands: Hands, pod: Object) -> set[str]:
    """The names of those that are there, once this one is not."""
    names = {str(each["metadata"]["name"]) for each in hands.pods()}
    return names if pod["metadata"]["name"] not in names else set()


def test_where_there_is_no_pod_nothing_was_disturbed(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upon_run, "A_WHILE", 0.5)
    with pytest.raises(Missed):
        upon_run.delete_pod()(hands)


def keys_of_secret(hands: Hands) -> tuple[str, str]:
    template = "{{range .data}}{{. | base64decode}} {{end}}"
    access, secret = hands.kubectl("get", "secret", "s3", f"--output=go-template={template}").split()
    return access, secret


def are_good(hands: Hands, keys: tuple[str, str]) -> bool:
    client = hands.store.endpoint.client(*keys)
    try:
        client.list_objects_v2(Bucket=hands.store.bucket)
    except ClientError as error:
        return bool(error.response["Error"]["Code"] != "InvalidAccessKeyId")
    finally:
        client.close()
    return True


def test_keys_that_are_exchanged_are_good_for_nothing_and_the_secret_has_others(hands: Hands) -> None:
    before = keys_of_secret(hands)
    assert are_good(hands, before)
    upon_store.other_keys(hands)
    assert before != keys_of_secret(hands)
    assert [are_good(hands, keys) for keys in (before, keys_of_secret(hands))] == [False, True]


def test_the_service_account_is_made_again_by_the_cluster(hands: Hands) -> None:
    before = uid(hands, "serviceaccount", "default")
    upon_run.delete_account(hands)
    until(lambda: hands.kubectl("get", "serviceaccount", "default", "--ignore-not-found"), 30)
    assert uid(hands, "serviceaccount", "default") != before


def stated(found: Mapping[str, Any]) -> Object:
    """What an object says but for what the server adds."""
    return {name: value for name, value in found.items() if name != "metadata"}


@pytest.mark.parametrize("what", [upon_operator.RIGHTS, upon_operator.ACCOUNT])
def test_what_is_taken_from_the_operator_is_given_back_as_it_was(hands: Hands, what: str) -> None:
    before = hands.read(what, NAMESPACE)
    with upon_operator.away(hands, what):
        assert not hands.system("get", what, f"--namespace={NAMESPACE}", "--ignore-not-found")
    after = hands.read(what, NAMESPACE)
    assert stated(after) == stated(before)
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    assert after["metadata"]["uid"] != before["metadata"]["uid"]


def test_an_operator_with_a_wrong_clock_may_be_where_pods_are_restricted(hands: Hands) -> None:
    hands.install(clock.config_map(NAMESPACE))
    before = hands.read(upon_operator.DEPLOYMENT, NAMESPACE)["spec"]["template"]
    skewed = clock.with_skew(before, "+2h")
    hands.patch(upon_operator.DEPLOYMENT, NAMESPACE, "/spec/template", skewed)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "skewed"}, "spec": skewed["spec"]}
    hands.installation.cluster.client.request("POST", f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All", pod)
    hands.patch(upon_operator.DEPLOYMENT, NAMESPACE, "/spec/template", before)
    assert hands.read(upon_operator.DEPLOYMENT, NAMESPACE)["spec"]["template"] == before


@pytest.mark.skipif(bool(hindrance()), reason=f"libfaketime may have to be installed: {hindrance()}")
@pytest.mark.parametrize("skew", ["+2h", "-30m"])
def test_an_operator_with_a_wrong_clock_brings_a_run_to_its_end(
    server: ApiServer, tmp_path: Path, skew: str
) -> None:
    namespace = Namespace(server, f"skewed-{secrets.token_hex(4)}")
    skewed = clock.environment(skew, str(clock.library().parent))
    log = tmp_path / "operator.log"
    operator = Operator(operator_kubeconfig(server, tmp_path), log, namespace.name, (), **skewed)
    operator.start()
    namespace.apply("tune")
    namespace.finish_all("tune")
    said = log.read_text()
    operator.stop()
    assert "Traceback" not in said
    told = namespace.condition("tune", "Complete")["lastTransitionTime"]
    ahead = datetime.fromisoformat(told) - datetime.now(UTC)
    assert ahead.total_seconds() == pytest.approx({"+2h": 7200, "-30m": -1800}[skew], abs=120)


def test_no_pod_is_put_on_a_node_that_is_cordoned_until_it_is_not(hands: Hands) -> None:
    hands.install({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE_NAME}})
    with upon_cluster.cordoned(hands):
        assert hands.look(f"/api/v1/nodes/{NODE_NAME}")["spec"]["unschedulable"]
    assert "unschedulable" not in hands.look(f"/api/v1/nodes/{NODE_NAME}")["spec"]
    hands.system("delete", "node", NODE_NAME)


def test_what_is_not_there_is_not_waited_for(hands: Hands) -> None:
    with pytest.raises(ApiError, match="not found"):
        hands.look(f"/api/v1/nodes/{secrets.token_hex(4)}")


def test_progress_is_told_at_the_port_to_which_the_way_is_cut() -> None:
    ports = at(render(OPERATOR), f"Deployment/{OPERATOR}: spec.template.spec.containers.0.ports")
    assert {"name": "progress", "containerPort": PROGRESS} in ports


def test_pods_reach_the_program_on_the_node_by_a_service(hands: Hands) -> None:
    for each in service.manifests(name := f"store-{secrets.token_hex(4)}", depot.PROGRAM, depot.PORT):
        hands.install(each)
    made = hands.look(f"/api/v1/namespaces/{name}/services/{depot.PROGRAM}")["spec"]
    (part,) = hands.look(f"/apis/discovery.k8s.io/v1/namespaces/{name}/endpointslices")["items"]
    assert (made["clusterIP"].startswith("10."), made["ports"][0]["port"]) == (True, depot.PORT)
    assert part["ports"][0] == {"name": depot.PROGRAM, "port": depot.PORT, "protocol": "TCP"}
