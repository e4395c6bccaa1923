"""An S3 service inside the cluster, at the address that the samples name.

`python -m cluster.storage` puts it into the cluster that `make cluster-up` made. What it holds is
gone when its pod is: it is for trying things out.
"""

import base64
import sys
from pathlib import Path

import yaml

from cluster import images
from cluster.client import Document, path_of
from cluster.s3server import S3Endpoint
from cluster.testbed import Cluster, in_use

MANIFEST = Path(__file__).parents[1] / "e2e" / "manifests" / "storage.yaml"
NAMESPACE, SERVICE, PORT = "storage", "s3", 7070
INSIDE = f"http://{SERVICE}.{NAMESPACE}.svc:{PORT}"


def deploy(cluster: Cluster) -> S3Endpoint:
    """Bring it up, unless it is there already; what is returned is reached from the tests."""
    image = cluster.offer(images.program("versitygw"))
    documents = list(yaml.safe_load_all(MANIFEST.read_text()))
    deployment = next(document for document in documents if document["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image
    for document in documents:
        cluster.client.apply(document)
    cluster.client.wait(path_of(deployment), _serves)
    secret = cluster.client.get(f"/api/v1/namespaces/{NAMESPACE}/secrets/{SERVICE}")["data"]
    keys = (base64.b64decode(secret[name]).decode() for name in ("ROOT_ACCESS_KEY", "ROOT_SECRET_KEY"))
    return S3Endpoint(f"http://{cluster.address(NAMESPACE, SERVICE, PORT)}", *keys)


def _serves(deployment: Document) -> bool:
    """Whether its one pod is there, and is not that of an earlier image, on its way out."""
    status, generation = deployment["status"], deployment["metadata"]["generation"]
    counted = [status.get(count) for count in ("observedGeneration", "updatedReplicas", "availableReplicas")]
    return counted == [generation, 1, 1]


def main() -> None:
    with in_use() as cluster:
        here = deploy(cluster)
        lines = [
            f"in pods: {INSIDE}",
            f"from this machine: {here.endpoint}",
            f"AWS_ACCESS_KEY_ID={here.access_key}",
            f"AWS_SECRET_ACCESS_KEY={here.secret_key}",
        ]
        sys.stdout.write("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
