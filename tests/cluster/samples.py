"""`make cluster-samples`: everything that the sample needs, in the cluster of `make cluster-up`.

The product's images, an S3 service with the sample's model and data, and its Secret in the namespace
`default`. What is left to do is what a user of any cluster does: helm and kubectl.
"""

import sys
from pathlib import Path

import yaml

from cluster import product, storage
from cluster.process import ServerError, run, say
from cluster.s3server import S3Endpoint
from cluster.testbed import Cluster, in_use

ROOT = Path(__file__).parents[2]
MODEL = "SmolLM2-135M-Instruct"
STORE = ROOT / "lorafinetune-store" / "samples"
DATA = ROOT / "samples" / "data" / "emollm"


def main() -> None:
    with in_use() as cluster:
        if not cluster.is_ours:
            raise ServerError("KUBECONFIG names a cluster that pulls its images: make images REGISTRY=…")
        for name in product.NAMES:
            say(f"the image {name} …")
            _offer(cluster, name)
        say("the S3 service, the model and the data …")
        here = storage.deploy(cluster)
        for bucket in ("samples", "finetunes"):
            _make(here, bucket)
        fill(here, "samples")
        _give_secret(cluster, here)
    sys.stdout.write(f"the S3 service is at {here.endpoint} for this machine\n")


def _offer(cluster: Cluster, name: str) -> None:
    """Under the name that the chart knows it by."""
    reference = product.image(name)
    cluster.offer_as(reference, f"{reference.rpartition(':')[0]}:{_version()}")


def _version() -> str:
    chart = yaml.safe_load((ROOT / "charts" / "lorafinetune" / "Chart.yaml").read_text())
    return str(chart["appVersion"])


def _make(here: S3Endpoint, bucket: str) -> None:
    client = here.client()
    if bucket not in {each["Name"] for each in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=bucket)
    client.close()


def fill(here: S3Endpoint, bucket: str) -> None:
    """Puts the model and the data of the sample there."""
    model = STORE / MODEL
    run(sys.executable, str(ROOT / "samples" / "smollm2.py"), str(model), within=600)
    client = here.client()
    for path in model.iterdir():
        client.upload_file(str(path), bucket, f"{MODEL}/{path.name}")
    for path in DATA.iterdir():
        client.upload_file(str(path), bucket, f"emollm/{path.name}")
    client.close()


def _give_secret(cluster: Cluster, here: S3Endpoint) -> None:
    keys = {"AWS_ACCESS_KEY_ID": here.access_key, "AWS_SECRET_ACCESS_KEY": here.secret_key}
    metadata = {"name": "s3", "namespace": "default"}
    cluster.client.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": keys})


if __name__ == "__main__":
    main()
