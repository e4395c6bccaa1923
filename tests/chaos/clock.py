"""A wrong clock for a process of a pod: libfaketime between it and the C library, from a ConfigMap."""

import base64
from pathlib import Path
from typing import Any, Final

from cluster import packages
from cluster.process import run

PACKAGE: Final = "libfaketime"
LIBRARY: Final = "libfaketimeMT.so.1"
NAME: Final = "clock"
FOLDER: Final = f"/{NAME}"
Object = dict[str, Any]


def library() -> Path:
    """The library, installed first unless it is there."""
    triplet = f"{run('uname', '-m').strip()}-linux-gnu"
    path = Path("/usr/lib", triplet, "faketime", LIBRARY)
    packages.ensure({str(path): PACKAGE})
    return path


def config_map(namespace: str) -> Object:
    """The library, as a pod can mount it that may mount nothing of its node."""
    content = base64.b64encode(library().read_bytes()).decode()
    metadata = {"name": NAME, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "binaryData": {LIBRARY: content}}


def environment(skew: str, folder: str = FOLDER) -> dict[str, str]:
    """What a process must have whose clock is to be wrong by so much, such as +2h; it waits no longer."""
    return {
        "LD_PRELOAD": f"{folder}/{LIBRARY}",
        "FAKETIME": skew,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # or threads that wait for each other take seconds for each turn
        "NO_FAKE_STAT": "1",
    }


def with_skew(template: Object, skew: str) -> Object:
    """The template of a pod of one container, whose clock is wrong from its start."""
    spec = template["spec"]
    (container,) = spec["containers"]
    given = [{"name": name, "value": value} for name, value in environment(skew).items()]
    mounted = {
        **container,
        "env": [*container.get("env", ()), *given],
        "volumeMounts": [
            *container.get("volumeMounts", ()),
            {"name": NAME, "mountPath": FOLDER, "readOnly": True},
        ],
    }
    volumes = [*spec.get("volumes", ()), {"name": NAME, "configMap": {"name": NAME}}]
    return template | {"spec": spec | {"containers": [mounted], "volumes": volumes}}
