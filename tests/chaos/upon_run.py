"""What people and the cluster do to one run: to its resource, its Jobs and its pods."""

import json
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final

from chaos.hands import Hands
from chaos.means import A_WHILE, Disturbance, Missed, wait_at_most
from cluster.process import CommandError
from e2e.tenant import Object, Tenant
from lorafinetune.api.quantity import amount
from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import StageName
from lorafinetune.core.jobs import SCRATCH

ALIVE: Final = ("Pending", "Running")
ENDED: Final = ("Succeeded", "Failed")
MADE_BY_THE_CLUSTER: Final = ("batch.kubernetes.io/controller-uid", "controller-uid")
"""Labels of a Job that no one but its controller may give."""
FILL: Final = """
import os, sys
os.posix_fallocate(os.open(sys.argv[1], os.O_CREAT | os.O_RDWR), 0, int(sys.argv[2]))
"""
BEGUN_WITHIN: Final = 120.0
"""What comes before a training, on a machine that is busy."""
MEASURED_WITHIN: Final = 120.0
"""The kubelet looks how much of their disks pods use, and evicts whoever uses too much."""


def delete_pod(*options: str, phases: Collection[str] = ALIVE) -> Disturbance:
    def delete(hands: Hands) -> None:
        hands.kubectl("delete", "pod", _name(_pod(hands, phases)), "--wait=false", *options)

    return delete


def evict_pod(phases: Collection[str] = ALIVE) -> Disturbance:
    def evict(hands: Hands) -> None:
        pod = _name(_pod(hands, phases))
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        path = f"/api/v1/namespaces/{hands.namespace}/pods/{pod}/eviction"
        with suppress(OSError):
            hands.installation.cluster.client.request("POST", path, eviction)

    return evict


def delete_job(cascade: str) -> Disturbance:
    def delete(hands: Hands) -> None:
        hands.kubectl("delete", "job", _job(hands), f"--cascade={cascade}", "--wait=false")

    return delete


def job_again(hands: Hands) -> None:
    """Deleted in the foreground, and made again by the same hands as soon as the name is free."""
    job = json.loads(hands.kubectl("get", "job", _job(hands), "--output=json"))
    hands.kubectl("delete", "job", _name(job), "--cascade=foreground", "--wait=true")
    with suppress(OSError):  # the operator was faster, or nobody answers
        hands.create(made_anew(job))


def made_anew(job: Object) -> Object:
    """A Job as somebody makes it who has the YAML of one."""
    template = job["spec"]["template"]
    spec = {k: v for k, v in job["spec"].items() if k != "selector"}
    labels = _by_hand(template["metadata"]["labels"])
    spec["template"] = template | {"metadata": template["metadata"] | {"labels": labels}}
    kept = ("name", "annotations", "ownerReferences")
    metadata = {k: job["metadata"][k] for k in kept if k in job["metadata"]}
    metadata["labels"] = _by_hand(job["metadata"].get("labels", {}))
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def apply_again(hands: Hands) -> None:
    hands.kubectl("delete", "lorafinetune", "tune", "--wait=true")
    hands.apply_run()


def apply_again_at_once(hands: Hands) -> None:
    """Deleted in the foreground, and applied under the same name while the old one still goes."""
    hands.replace("lorafinetune", "tune", hands.apply_run)


def suspend_and_resume(hands: Hands) -> None:
    hands.edit("tune", {"suspend": True})
    time.sleep(A_WHILE)
    hands.edit("tune", {"suspend": False})


def edit_and_edit_back(hands: Hands) -> None:
    before = hands.get()["spec"]["training"]["learningRate"]
    hands.edit("tune", {"training": {"learningRate": "5e-4"}})
    time.sleep(A_WHILE / 4)
    hands.edit("tune", {"training": {"learningRate": before}})


def delete_account(hands: Hands) -> None:
    """The identity of its pods, by which they tell of their progress; the cluster makes another one."""
    hands.kubectl("delete", "serviceaccount", "default")


def fill_scratch(hands: Hands) -> None:
    """That of a training holds more than it may, for which it is evicted. It stands still until the kubelet
    has looked, before which a tiny one would end. Whoever is told of it gives it twice as much."""
    wait_at_most(BEGUN_WITHIN, lambda: _has_begun_to_train(hands.status()))
    pod = _pod(hands, ("Running",), "train")
    (container,) = pod["status"]["containerStatuses"]
    (size,) = (each["emptyDir"]["sizeLimit"] for each in pod["spec"]["volumes"] if each["name"] == "scratch")
    file, size = f"{SCRATCH}/filler", int(amount(size))
    with hands.node.container_paused(container["containerID"]):
        try:
            Tenant.kubectl(hands, "exec", _name(pod), "--", "python", "-c", FILL, file, str(size + 2**20))
        except CommandError as error:
            raise Missed from error
        if not wait_at_most(MEASURED_WITHIN, lambda: _is_told_of_disk(hands.status())):
            raise Missed
    hands.edit("tune", {"resources": {"train": {"scratch": str(2 * size)}}})


def _has_begun_to_train(status: Object) -> bool:
    return any(each["name"] == "train" and each["state"] != "Pending" for each in status.get("stages", ()))


def _is_told_of_disk(status: Object) -> bool:
    return bool(status.get("failure", {}).get("reason") == Reason.DISK_FULL)


def _by_hand(labels: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if name not in MADE_BY_THE_CLUSTER}


def _name(made: Object) -> str:
    return str(made["metadata"]["name"])


def _job(hands: Hands) -> str:
    """Of a pod that has not ended."""
    return str(_pod(hands, ALIVE)["metadata"]["labels"]["job-name"])


def _pod(hands: Hands, phases: Collection[str], stage: StageName | None = None) -> dict[str, Any]:
    """A pod of the run, or of a stage, in one of these phases: the one that is, or the next."""
    deadline = time.monotonic() + A_WHILE
    while time.monotonic() < deadline:
        for pod in hands.pods(stage):
            if pod["status"].get("phase") in phases and not pod["metadata"].get("deletionTimestamp"):
                return dict(pod)
        time.sleep(0.2)
    raise Missed
