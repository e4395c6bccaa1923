"""The cluster is a real one: the promises that other end-to-end tests rest on."""

import json
from collections.abc import Iterator

import pytest

from cluster.client import ApiError
from cluster.s3server import S3Endpoint
from cluster.storage import INSIDE
from cluster.testbed import Cluster
from e2e.jobs import new_namespace, outcome, python_job

AUDIENCE = "lorafinetune.dev"
SAY = "open('/dev/termination-log', 'w').write(str({what}))"
TOKEN_VOLUME = {
    "name": "token",
    "projected": {"sources": [{"serviceAccountToken": {"audience": AUDIENCE, "path": "token"}}]},
}
CLAIMS = """
import base64
body = open('/token/token').read().split('.')[1]
""" + SAY.format(what="base64.urlsafe_b64decode(body + '==').decode()")
OVER_TLS = """
import ssl, urllib.request
trusted = ssl.create_default_context(cafile='/ca/ca.crt')
answer = urllib.request.urlopen('https://kubernetes.default.svc/readyz', context=trusted)
""" + SAY.format(what="answer.read().decode()")
OVER_HTTP = """
import urllib.request
answer = urllib.request.urlopen('{url}/health')
""" + SAY.format(what="answer.status")


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    name = new_namespace(cluster)
    yield name
    cluster.client.delete(f"/api/v1/namespaces/{name}")


def test_every_node_is_ready(cluster: Cluster) -> None:
    nodes = cluster.client.get("/api/v1/nodes")["items"]
    conditions = [{c["type"]: c["status"] for c in node["status"]["conditions"]} for node in nodes]
    assert nodes
    assert all(condition["Ready"] == "True" for condition in conditions)


def test_a_restricted_job_runs_and_its_message_is_kept(cluster: Cluster, namespace: str) -> None:
    script = "import os; " + SAY.format(what="f'I am {os.getuid()}'")
    assert outcome(cluster, python_job(cluster, namespace, script)) == "I am 10001"


def test_what_a_job_prints_is_in_its_log(cluster: Cluster, namespace: str) -> None:
    job = python_job(cluster, namespace, "print('hello')")
    outcome(cluster, job)
    query = f"labelSelector=job-name%3D{job['metadata']['name']}"
    pods = cluster.client.get(f"/api/v1/namespaces/{namespace}/pods?{query}")["items"]
    assert cluster.client.log(namespace, pods[0]["metadata"]["name"]) == "hello\n"


def test_a_pod_that_is_not_restricted_is_refused(cluster: Cluster, namespace: str) -> None:
    job = python_job(cluster, namespace, "", securityContext={})
    spec = job["spec"]["template"]["spec"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": job["metadata"], "spec": spec}
    with pytest.raises(ApiError, match='violates PodSecurity "restricted:latest": runAsNonRoot') as refused:
        cluster.client.apply(pod)
    assert refused.value.code == 403


def test_a_pod_gets_a_token_for_an_audience_of_its_own(cluster: Cluster, namespace: str) -> None:
    mount = {"volumeMounts": [{"name": "token", "mountPath": "/token"}]}
    job = python_job(cluster, namespace, CLAIMS, container=mount, volumes=[TOKEN_VOLUME])
    claims = json.loads(outcome(cluster, job))
    assert claims["aud"] == [AUDIENCE]
    assert claims["kubernetes.io"]["pod"]["name"].startswith(job["metadata"]["name"])


def test_a_pod_trusts_the_api_server_by_the_authority_that_it_is_given(
    cluster: Cluster, namespace: str
) -> None:
    mount = {"volumeMounts": [{"name": "ca", "mountPath": "/ca"}]}
    volume = {"name": "ca", "configMap": {"name": "kube-root-ca.crt"}}
    assert (
        outcome(cluster, python_job(cluster, namespace, OVER_TLS, container=mount, volumes=[volume])) == "ok"
    )


def test_a_pod_reaches_a_service_by_its_name(
    cluster: Cluster, cluster_storage: S3Endpoint, namespace: str
) -> None:
    assert outcome(cluster, python_job(cluster, namespace, OVER_HTTP.format(url=INSIDE))) == "200"


def test_the_tests_reach_the_storage(cluster_storage: S3Endpoint) -> None:
    client = cluster_storage.client()
    cluster_storage.create_bucket("from-outside")
    client.put_object(Bucket="from-outside", Key="a/b", Body=b"content")
    assert client.head_object(Bucket="from-outside", Key="a/b")["ContentLength"] == 7
    client.delete_object(Bucket="from-outside", Key="a/b")
    client.delete_bucket(Bucket="from-outside")
    client.close()
