"""A tenant of the cluster: a namespace, a Secret, and LoRAFineTunes applied with kubectl."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from builders import document, merged
from cluster.build import binary
from cluster.process import run
from cluster.s3server import S3Endpoint
from cluster.storage import INSIDE
from e2e.installation import Installation, until
from e2e.jobs import new_namespace
from local.runs import SPEC, desk
from lorafinetune.api import API_VERSION
from lorafinetune.api.status import StageName
from lorafinetune.contract.arguments import STAGES
from lorafinetune.core.observed import NAME_LABEL, STAGE_LABEL

Object = dict[str, Any]


class Store:
    """A bucket of the cluster's S3 service, or of another. inside: its address for pods. hub: that of a hub
    beside it, if there is one."""

    hub = ""

    def __init__(self, endpoint: S3Endpoint, bucket: str, inside: str = INSIDE) -> None:
        self.endpoint = endpoint
        self.bucket = bucket
        self.inside = inside
        endpoint.create_bucket(bucket)

    def fill(self, folder: Path) -> None:
        samples = desk(folder).samples
        client = self.endpoint.client()
        for path in samples.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), self.bucket, path.relative_to(samples).as_posix())
        client.close()

    def keys(self, prefix: str) -> list[str]:
        client = self.endpoint.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        found = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        client.close()
        return found

    def contents(self, prefix: str) -> dict[str, bytes]:
        """All objects below the prefix, by their keys."""
        client = self.endpoint.client()
        found = {
            key: client.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in self.keys(prefix)
        }
        client.close()
        return found

    def clear(self, prefix: str) -> None:
        client = self.endpoint.client()
        for key in self.keys(prefix):
            client.delete_object(Bucket=self.bucket, Key=key)
        client.close()

    def empty(self) -> None:
        self.clear("")
        client = self.endpoint.client()
        client.delete_bucket(Bucket=self.bucket)
        client.close()

    def spec(self, prefix: str, changes: Mapping[str, Any] | None = None) -> Object:
        """A short tuning of the tiny model, whose outputs lie below the prefix."""
        here = {"connection": "store"}
        mine = {
            "connections": [{"name": "store", "endpoint": self.inside, "secretRef": {"name": "s3"}}],
            "model": {"source": f"s3://{self.bucket}/tiny", **here},
            "datasets": [{"source": f"s3://{self.bucket}/rows.jsonl", "format": "alpaca", **here}],
            "training": {"maxSteps": 10, "evaluation": {"everySteps": 5}, "checkpoint": {"every": 5}},
            "storage": {"uri": f"s3://{self.bucket}/{prefix}", **here},
            "resources": {stage: {"requests": {"cpu": "0.2"}} for stage in STAGES},
        }
        return merged(document(merged(SPEC, mine))["spec"], changes or {})


class Tenant:
    """A namespace and what its people do in it."""

    def __init__(self, installation: Installation, store: Store) -> None:
        self.installation = installation
        self.store = store
        self.namespace = new_namespace(installation.cluster)

    def leave(self) -> None:
        self.kubectl("delete", "lorafinetunes", "--all")
        self.installation.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def kubectl(self, *arguments: str) -> str:
        return self.installation.kubectl(f"--namespace={self.namespace}", *arguments)

    def give_secret(self, **wrong: str) -> None:
        keys = {
            "AWS_ACCESS_KEY_ID": self.store.endpoint.access_key,
            "AWS_SECRET_ACCESS_KEY": self.store.endpoint.secret_key,
        }
        self.apply_object(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"}, "stringData": keys | wrong}
        )

    def apply_object(self, made: Object) -> str:
        """`kubectl apply` of one object; what it prints."""
        kubectl = [str(binary("kubectl")), f"--kubeconfig={self.installation.cluster.kubeconfig}"]
        return run(*kubectl, f"--namespace={self.namespace}", "apply", "-f", "-", stdin=json.dumps(made))

    def apply(self, name: str = "tune", changes: Mapping[str, Any] | None = None) -> None:
        """Applies a LoRAFineTune: the short tuning with some fields changed."""
        made = document()
        spec = self.store.spec(self.namespace, changes)
        self.apply_object({**made, "metadata": {"name": name}, "spec": spec})

    def edit(self, name: str, changes: Mapping[str, Any]) -> None:
        patch = json.dumps({"spec": changes})
        self.kubectl("patch", "lorafinetune", name, "--type=merge", f"--patch={patch}")

    def give_nodes(self, resource: str) -> None:
        """One more of what a pod may ask for, on the first of the nodes."""
        client = self.installation.cluster.client
        node = client.get("/api/v1/nodes")["items"][0]["metadata"]["name"]
        offered = {"status": {"capacity": {resource: "1"}}}
        client.request("PATCH", f"/api/v1/nodes/{node}/status", offered, "application/merge-patch+json")

    def get(self, name: str = "tune") -> Object:
        return self._read(f"/apis/{API_VERSION}", f"lorafinetunes/{name}")

    def status(self, name: str = "tune") -> Object:
        status: Object = self.get(name).get("status", {})
        return status

    def wait(self, condition: str, name: str = "tune", within: int = 240) -> Object:
        """Waits with `kubectl wait`; the status then."""
        self.kubectl("wait", f"--for=condition={condition}", f"--timeout={within}s", f"lorafinetune/{name}")
        return self.status(name)

    def reason(self, condition: str, name: str = "tune") -> str:
        """The reason of a condition; empty where there is none."""
        conditions = {c["type"]: c["reason"] for c in self.status(name).get("conditions", [])}
        return str(conditions.get(condition, ""))

    def wait_for_reason(self, reason: str, name: str = "tune", within: float = 60) -> Object:
        """The failure with this reason, once the resource tells of it."""

        def told() -> Object:
            failure: Object = self.status(name).get("failure", {})
            return failure if failure.get("reason") == reason else {}

        return until(told, within)

    def goes_on(self, within: float) -> None:
        """The download is done, which takes but a moment, and its failure is gone."""

        def downloaded() -> bool:
            stages = {s["name"]: s["state"] for s in self.status().get("stages", [])}
            return stages.get("download") == "Complete"

        until(downloaded, within)
        assert self.status().get("failure", {}).get("stage") != "download"

    def wait_for_checkpoint(self, name: str = "tune", within: float = 240) -> int:
        """The step of the first checkpoint that the status shows."""
        return until(lambda: int(self.status(name).get("checkpoint", {}).get("step", 0)), within)

    def jobs(self, stage: StageName | None = None, name: str = "tune") -> list[Object]:
        selector = f"{NAME_LABEL}={name}" + (f",{STAGE_LABEL}={stage}" if stage else "")
        found: list[Object] = self._read("/apis/batch/v1", f"jobs?labelSelector={quote(selector)}")["items"]
        return found

    def pods(self, stage: StageName | None = None) -> list[Object]:
        selector = f"{STAGE_LABEL}={stage}" if stage else STAGE_LABEL
        found: list[Object] = self._read("/api/v1", f"pods?labelSelector={quote(selector)}")["items"]
        return found

    def running_pod(self, stage: StageName, within: float = 120) -> str:
        """Name of the pod of a stage, once it runs."""

        def running() -> str:
            alive = (p for p in self.pods(stage) if p["status"].get("phase") == "Running")
            return next(
                (p["metadata"]["name"] for p in alive if not p["metadata"].get("deletionTimestamp")), ""
            )

        return until(running, within)

    def events(self, name: str = "tune") -> list[tuple[str, str]]:
        """Reason and message of the Events on a resource, in order, as often as each was told."""
        found = self._read("/api/v1", "events")["items"]
        mine = [e for e in found if e["involvedObject"].get("name") == name]
        mine.sort(key=lambda e: int(e["metadata"]["resourceVersion"]))
        return [(e["reason"], e["message"]) for e in mine for _ in range(e.get("count") or 1)]

    def is_quiet(self, seconds: float, name: str = "tune") -> bool:
        """Whether nothing is written to the resource for so long."""
        before = self.get(name)["metadata"]["resourceVersion"]
        time.sleep(seconds)
        return bool(before == self.get(name)["metadata"]["resourceVersion"])

    def _read(self, group: str, what: str) -> Object:
        """Without kubectl, which takes a tenth of a second of a processor: who waits reads often."""
        return self.installation.cluster.client.get(f"{group}/namespaces/{self.namespace}/{what}")
