"""Runs the stages of a resource as Jobs of the cluster, by the plan alone: no operator is needed.

A ConfigMap stands in for the resource as the owner of the Jobs: what has no owner is collected as garbage.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from builders import document
from cluster.client import Document
from cluster.testbed import Cluster
from lorafinetune.api.codec import decode
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.core.jobs import Settings
from lorafinetune.core.observed import STAGE_LABEL, observe
from lorafinetune.core.plan import is_finished, plan
from lorafinetune.core.turn import Input


def run_to_end(
    cluster: Cluster, namespace: str, spec: Mapping[str, Any], settings: Settings, within: float
) -> LoRAFineTune:
    """The resource with its last status; it has ended one way or the other within so many seconds."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tune", "namespace": namespace}}
    uid = cluster.client.apply(owner)["metadata"]["uid"]
    resource = decode(document(spec, namespace=namespace, uid=uid))
    deadline = time.monotonic() + within
    while not is_finished(resource):
        assert time.monotonic() < deadline, resource.status
        resource = _advance(cluster, resource, settings, owner)
        time.sleep(0.5)
    return resource


def _advance(cluster: Cluster, resource: LoRAFineTune, settings: Settings, owner: Document) -> LoRAFineTune:
    namespace, uid = resource.metadata.namespace, resource.metadata.uid
    jobs = _items(cluster, f"/apis/batch/v1/namespaces/{namespace}/jobs")
    pods = _items(cluster, f"/api/v1/namespaces/{namespace}/pods")
    now = datetime.now(UTC)
    made = plan(Input(resource, observe(uid, jobs, pods, (), now), settings, now))
    for job in made.create:
        kind = {"apiVersion": owner["apiVersion"], "kind": owner["kind"]}
        references = [reference | kind for reference in job["metadata"]["ownerReferences"]]
        cluster.client.apply({**job, "metadata": job["metadata"] | {"ownerReferences": references}})
    return resource.model_copy(update={"status": made.status})


def _items(cluster: Cluster, path: str) -> list[Document]:
    found: list[Document] = cluster.client.get(f"{path}?labelSelector={STAGE_LABEL}")["items"]
    return found
