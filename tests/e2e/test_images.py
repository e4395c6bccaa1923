"""The images that users build, run as the operator's Jobs run: as nobody, on a read-only root."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders import merged
from cluster import images, product
from cluster.s3server import S3Endpoint
from cluster.storage import INSIDE
from cluster.testbed import Cluster
from e2e.jobs import POD_SECURITY, new_namespace, outcome, python_job, termination
from e2e.stages import run_to_end
from local.runs import SPEC, desk
from lorafinetune.api.status import StageName
from lorafinetune.contract.outcome import ExitCode
from lorafinetune.core.jobs import Settings

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("cluster")]

MEGABYTES_OVER_BASE = {"operator": 150, "download": 200, "train": 7000}
PROGRAM = {
    "operator": "lorafinetune.shell",
    "download": "lorafinetune_stages",
    "train": "lorafinetune_stages",
}
IMAGE_OF: dict[StageName, str] = {
    "download": "download",
    "prepare": "train",
    "train": "train",
    "export": "train",
}
LABEL = "org.opencontainers.image."
LOOK = """
import importlib.util, json, os, shutil
files = [os.path.join(at, name) for top in ('/app', '/opt', '/licenses')
         for at, folders, names in os.walk(top) for name in [*folders, *names]]
facts = [(path, os.lstat(path)) for path in files if not os.path.islink(path)]
sources = [path for path in files if path.endswith('.py')
           and '/bin/' not in path and '/examples/' not in path]
found = {
    'torch': importlib.util.find_spec('torch') is not None,
    'tools': [tool for tool in ('pip', 'uv', 'cc', 'gcc', 'make', 'git') if shutil.which(tool)],
    'pip': importlib.util.find_spec('pip') is not None,
    'not of root': [path for path, fact in facts if fact.st_uid or fact.st_gid][:5],
    'writable': [path for path, fact in facts if fact.st_mode & 0o022][:5],
    'not compiled': [s for s in sources if not os.path.exists(importlib.util.cache_from_source(s))][:5],
}
open('/dev/termination-log', 'w').write(json.dumps(found))
"""
IMPORT = """
import {module}
open('/dev/termination-log', 'w').write('imported')
"""
SCRATCH = {
    "container": {
        "env": [{"name": name, "value": "/scratch"} for name in ("HOME", "TMPDIR")],
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
    },
    "volumes": [{"name": "scratch", "emptyDir": {}}],
}


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    name = new_namespace(cluster)
    yield name
    cluster.client.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module")
def bucket(cluster_storage: S3Endpoint) -> Iterator[str]:
    name = f"images-{secrets.token_hex(4)}"
    cluster_storage.create_bucket(name)
    yield name
    client = cluster_storage.client()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
        for entry in page.get("Contents", ()):
            client.delete_object(Bucket=name, Key=entry["Key"])
    client.delete_bucket(Bucket=name)
    client.close()


def script_in(cluster: Cluster, namespace: str, image: str, script: str, **pod: Any) -> dict[str, Any]:
    """A Job that runs a Python script in one of our images as the operator's Jobs run."""
    container = pod.pop("container", {}) | {"image": cluster.offer(product.image(image))}
    command = {"command": ["python", "-c", script]} if script else {"command": []}
    security = POD_SECURITY | {"runAsUser": 65532}
    return python_job(cluster, namespace, "", container=container | command, securityContext=security, **pod)


@pytest.mark.parametrize("image", product.NAMES)
def test_an_image_says_what_it_is_and_runs_as_nobody(image: str) -> None:
    config = images.about(product.image(image))["OCIv1"]["config"]
    labels = {key.removeprefix(LABEL): text for key, text in config["Labels"].items() if LABEL in key}
    about = {key.lower(): text for key, text in product.ABOUT.items()}
    assert labels == {"title": f"LoRAFineTune {image}", "licenses": "Apache-2.0", **about}
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["python", "-m", PROGRAM[image]]


@pytest.mark.parametrize("image", product.NAMES)
def test_an_image_stays_within_its_size(image: str) -> None:
    bases = {layer["digest"] for layer in images.layers(images.base())}
    own = [layer for layer in images.layers(product.image(image)) if layer["digest"] not in bases]
    assert sum(layer["size"] for layer in own) < MEGABYTES_OVER_BASE[image] * 1e6


@pytest.mark.parametrize("image", product.NAMES)
def test_an_image_holds_compiled_programs_of_root_and_only_the_tools_it_needs(
    cluster: Cluster, namespace: str, image: str
) -> None:
    found = json.loads(outcome(cluster, script_in(cluster, namespace, image, LOOK), within=300))
    assert found == {
        "torch": image == "train",
        "tools": ["cc", "gcc"] if image == "train" else [],
        "pip": False,
        "not of root": [],
        "writable": [],
        "not compiled": [],
    }


@pytest.mark.parametrize(
    ("image", "module"),
    [
        ("operator", "lorafinetune.shell.__main__"),
        ("download", "lorafinetune_stages.download.stage"),
        ("train", "llamafactory.train.tuner"),
    ],
)
def test_the_programs_of_an_image_start_on_a_read_only_root(
    cluster: Cluster, namespace: str, image: str, module: str
) -> None:
    job = script_in(cluster, namespace, image, IMPORT.format(module=module), **SCRATCH)
    assert outcome(cluster, job, within=300) == "imported"


@pytest.mark.parametrize("image", ["download", "train"])
def test_a_stage_that_is_not_named_is_bad_input(cluster: Cluster, namespace: str, image: str) -> None:
    ended = termination(cluster, script_in(cluster, namespace, image, script=""))
    assert ended["exitCode"] == ExitCode.BAD_INPUT


def test_all_stages_run_in_their_images_and_leave_a_merged_model(
    cluster: Cluster, cluster_storage: S3Endpoint, namespace: str, bucket: str, tmp_path: Path
) -> None:
    _upload(cluster_storage, desk(tmp_path).samples, bucket)
    keys = {
        "AWS_ACCESS_KEY_ID": cluster_storage.access_key,
        "AWS_SECRET_ACCESS_KEY": cluster_storage.secret_key,
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3", "namespace": namespace}}
    cluster.client.apply({**secret, "stringData": keys})
    settings = Settings(
        images={stage: cluster.offer(product.image(name)) for stage, name in IMAGE_OF.items()}
    )
    ended = run_to_end(cluster, namespace, _spec(bucket), settings, within=500)
    status = ended.status
    assert status is not None
    assert status.stage == "Complete", status.failure
    assert status.artifacts is not None
    assert status.artifacts.merged is not None
    key = status.artifacts.merged.uri.removeprefix(f"s3://{bucket}/")
    client = cluster_storage.client()
    assert client.head_object(Bucket=bucket, Key=f"{key}/manifest.json")["ContentLength"] > 0
    client.close()


def _spec(bucket: str) -> dict[str, Any]:
    """Four steps of the tiny model of local runs, with everything in the store of the cluster."""
    here = {"connection": "store"}
    return merged(
        SPEC,
        {
            "connections": [{"name": "store", "endpoint": INSIDE, "secretRef": {"name": "s3"}}],
            "model": {"source": f"s3://{bucket}/tiny", **here},
            "datasets": [{"source": f"s3://{bucket}/rows.jsonl", "format": "alpaca", **here}],
            "training": {"maxSteps": 4, "evaluation": {"everySteps": 2}, "checkpoint": {"every": 2}},
            "storage": {"uri": f"s3://{bucket}/runs", **here},
        },
    )


def _upload(storage: S3Endpoint, folder: Path, bucket: str) -> None:
    client = storage.client()
    for path in folder.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), bucket, path.relative_to(folder).as_posix())
    client.close()
