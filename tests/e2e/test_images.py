"""The images that users build, run as the operator's Jobs run: as nobody, on a read-only root."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import images, product
from cluster.testbed import Cluster
from e2e.jobs import POD_SECURITY, new_namespace, outcome, python_job, termination
from lorafinetune.contract.outcome import ExitCode

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("cluster")]

MEGABYTES_OVER_BASE = {"operator": 150, "download": 200, "train": 7000}
PROGRAM = {
    "operator": "lorafinetune.shell",
    "download": "lorafinetune_stages",
    "train": "lorafinetune_stages",
}
LABEL = "org.opencontainers.image."
LOOK = """
import importlib.util, json, os, shutil, sysconfig
files = [os.path.join(at, name) for top in ('/app', '/opt', '/licenses')
         for at, folders, names in os.walk(top) for name in [*folders, *names]]
facts = [(path, os.lstat(path)) for path in files if not os.path.islink(path)]
sources = [path for path in files if path.endswith('.py')
           and '/bin/' not in path and '/examples/' not in path]
site = sysconfig.get_path('purelib')
found = {
    'torch': importlib.util.find_spec('torch') is not None,
    'tools': [tool for tool in ('pip', 'uv', 'cc', 'gcc', 'make', 'git') if shutil.which(tool)],
    'pip': importlib.util.find_spec('pip') is not None,
    'web': [name for name in ('gradio', 'fastapi', 'uvicorn', 'llamafactory/webui', 'llamafactory/api')
            if os.path.exists(os.path.join(site, name))],
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
        "web": [],
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
