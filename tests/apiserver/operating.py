"""A real operator beside a real API server, and the test as the kubelet: it says how each Pod ends."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from builders import artifact, document, model, result
from cluster.apiserver import ApiServer
from cluster.client import ApiError, Client
from cluster.process import Process, fetch, free_port
from lorafinetune.api import API_VERSION
from lorafinetune.api.status import StageName
from lorafinetune.contract.arguments import ARGUMENTS_VARIABLE
from lorafinetune.contract.keys import digest, key, shaping_fields
from lorafinetune.contract.outcome import Result, StageError, encode_error, encode_result
from lorafinetune.core.observed import NAME_LABEL, STAGE_LABEL

Object = dict[str, Any]
T = TypeVar("T")

MERGE = "application/merge-patch+json"
WITHIN = 30.0
TESTS = Path(__file__).parents[1]


class Operator:
    """The operator as a process of its own, as its image starts it. haste: what `hasty` takes."""

    def __init__(
        self, kubeconfig: Path, log: Path, namespaces: str = "", haste: Sequence[str] = (), **variables: str
    ) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        environment = {
            "KUBECONFIG": str(kubeconfig),
            "LORAFINETUNE_DOWNLOAD_IMAGE": "example.com/download:1",
            "LORAFINETUNE_TRAIN_IMAGE": "example.com/train:1",
            "LORAFINETUNE_NAMESPACES": namespaces,
            "LORAFINETUNE_STATUS_ADDRESS": self.url.removeprefix("http://"),
        }
        program = ["apiserver.hasty", *haste] if haste else ["lorafinetune.shell"]
        environment |= {"PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"} if haste else {}
        command = [sys.executable, "-W", "error", "-m", *program]
        self._process = Process(command, log, environment | variables)
        self.log = log

    def start(self) -> None:
        self._process.start(lambda: fetch(f"{self.url}/readyz"))

    def stop(self, grace: float = 5) -> None:
        self._process.stop(grace)

    def launch(self) -> None:
        """Does not wait until it is ready."""
        self._process.launch()

    def kill(self) -> None:
        self._process.kill()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all labels but the given."""
        return metric(fetch(f"{self.url}/metrics").decode(), name, **labels)


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of the series of one name in Prometheus' text form."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = (line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")))
    return sum(float(line.rpartition(" ")[2]) for line in lines if all(each in line for each in wanted))


class Namespace:
    """One namespace of the API server, seen as a user and as a kubelet."""

    def __init__(self, server: ApiServer, name: str) -> None:
        self.client = Client(server.kubeconfig)
        self.name = name
        self.client.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        self.wait(lambda: self._try(f"/api/v1/namespaces/{name}/serviceaccounts/default"))

    def path(self, plural: str, name: str = "") -> str:
        roots = {"lorafinetunes": f"/apis/{API_VERSION}", "jobs": "/apis/batch/v1"}
        where = f"{roots.get(plural, '/api/v1')}/namespaces/{self.name}/{plural}"
        return f"{where}/{name}" if name else where

    def apply(self, name: str, spec: Mapping[str, Any] | None = None, *, dry: bool = False) -> Object:
        """Creates a resource; its model is of its own name, so that no two have the same key by chance."""
        own = {"model": {"source": f"hf://owner/{name}"}}
        made = document(own | dict(spec or {}))
        made["metadata"] = {"name": name}
        query = "?dryRun=All" if dry else ""
        return self.client.request("POST", self.path("lorafinetunes") + query, made)

    def edit(self, name: str, spec: Mapping[str, Any]) -> None:
        self.client.request("PATCH", self.path("lorafinetunes", name), {"spec": dict(spec)}, MERGE)

    def get(self, name: str) -> Object:
        return self.client.get(self.path("lorafinetunes", name))

    def status(self, name: str) -> Object:
        status: Object = self.get(name).get("status") or {}
        return status

    def items(self, plural: str) -> list[Object]:
        items: list[Object] = self.client.get(self.path(plural))["items"]
        return items

    def condition(self, name: str, kind: str) -> Object:
        found = (c for c in self.status(name).get("conditions", []) if c["type"] == kind)
        return next(found, {})

    def until(self, name: str, kind: str, reason: str = "") -> Object:
        """Waits until a condition is true, or has the reason."""

        def holds() -> Object:
            there = self.condition(name, kind)
            good = there.get("reason") == reason if reason else there.get("status") == "True"
            return there if good else {}

        return self.wait(holds)

    def jobs_of(self, name: str, stage: StageName | None = None) -> list[Object]:
        """The Jobs of a resource."""
        own = [j for j in self.items("jobs") if j["metadata"].get("labels", {}).get(NAME_LABEL) == name]
        of_stage = [j for j in own if stage in (None, j["metadata"]["labels"][STAGE_LABEL])]
        return of_stage

    def pods_of(self, name: str) -> list[Object]:
        return [p for p in self.items("pods") if p["metadata"]["labels"].get(NAME_LABEL) == name]

    def told(self, name: str, reason: str, times: int = 1) -> int:
        """How many Events of a reason are on a resource, once they are `times`: they follow the status."""

        def count() -> int:
            about = (e for e in self.items("events") if e["involvedObject"].get("name") == name)
            return sum(e["count"] for e in about if e["reason"] == reason)

        return self.wait(lambda: count() if count() >= times else 0)

    def job(self, name: str, stage: StageName, other_than: Object | None = None) -> Object:
        """Waits for the Job of a stage, which is neither leaving nor one that the test knows already."""

        def found() -> Object:
            staying = (j for j in self.jobs_of(name, stage) if "deletionTimestamp" not in j["metadata"])
            return next((j for j in staying if not other_than or uid(j) != uid(other_than)), {})

        return self.wait(found)

    def pod(self, job: Object) -> Object:
        """Waits for the Pod of a Job."""

        def found() -> Object:
            pods = self.items("pods")
            return next((p for p in pods if controller_uid(p) == uid(job)), {})

        return self.wait(found)

    def run(self, pod: Object, node: str = "node-1") -> None:
        """A node takes the Pod and runs it, so that it does not leave at once when it is deleted."""
        name = pod["metadata"]["name"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": {"name": node},
        }
        self.client.request("POST", self.path("pods", name) + "/binding", binding)
        self._set_status(pod, {"phase": "Running"})

    def end(self, pod: Object, outcome: Result | StageError) -> None:
        """The Pod's container ends with a termination message."""
        if isinstance(outcome, StageError):
            self._end(pod, 1, encode_error(outcome))
        else:
            self._end(pod, 0, encode_result(outcome))

    def kill(self, pod: Object) -> None:
        """The Pod's container ends by SIGKILL, without a word."""
        self._end(pod, 128 + signal.SIGKILL, "")

    def _end(self, pod: Object, code: int, message: str) -> None:
        terminated = {
            "exitCode": code,
            "startedAt": pod["metadata"]["creationTimestamp"],
            "finishedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "message": message,
        }
        (container,) = pod["spec"]["containers"]
        ended = {
            "name": container["name"],
            "image": "",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": {"terminated": terminated},
        }
        phase = "Failed" if code else "Succeeded"
        self._set_status(pod, {"phase": phase, "containerStatuses": [ended]})

    def remove(self, pod: Object) -> None:
        """The kubelet says that a Pod is gone."""
        options = {"gracePeriodSeconds": 0}
        with suppress(ApiError):
            self.client.request("DELETE", self.path("pods", pod["metadata"]["name"]), options)

    def finish(self, name: str, stage: StageName, other_than: Object | None = None) -> Object:
        """Waits for the Job of a stage, and lets its Pod end well. Returns the Job."""
        job = self.job(name, stage, other_than)
        pod = self.pod(job)
        self.end(pod, outcome_of(pod))
        return job

    def finish_all(self, name: str) -> None:
        for stage in ("download", "prepare", "train", "export"):
            self.finish(name, stage)
        self.until(name, "Complete")

    def wait(self, found: Callable[[], T], within: float = WITHIN) -> T:
        """What is found, once it is something."""
        deadline = time.monotonic() + within
        while not (there := found()):
            assert time.monotonic() < deadline, self._dump()
            time.sleep(0.05)
        return there

    def _dump(self) -> str:
        told = {plural: self.items(plural) for plural in ("lorafinetunes", "jobs", "pods")}
        for item in [item for items in told.values() for item in items]:
            item["metadata"].pop("managedFields", None)
            item.pop("spec", None)
        return json.dumps(told, indent=1)

    def _set_status(self, pod: Object, status: Object) -> None:
        path = self.path("pods", pod["metadata"]["name"]) + "/status"
        self.client.request("PATCH", path, {"status": status}, MERGE)

    def _try(self, path: str) -> Object | None:
        try:
            return self.client.get(path)
        except ApiError:
            return None


def uid(given: Object) -> str:
    return str(given["metadata"]["uid"])


def controller_uid(given: Object) -> str:
    return next((str(r["uid"]) for r in given["metadata"].get("ownerReferences", []) if r["controller"]), "")


def outcome_of(pod: Object, **changes: Any) -> Result:
    """What a stage would report: its keys follow its arguments, as the real ones do."""
    stage: StageName = pod["metadata"]["labels"][STAGE_LABEL]
    (container,) = pod["spec"]["containers"]
    (told,) = (each["value"] for each in container["env"] if each["name"] == ARGUMENTS_VARIABLE)
    given = json.loads(told)
    return result(stage, **(_own(stage, given) | changes))


def _own(stage: StageName, given: Object) -> dict[str, Any]:
    match stage:
        case "download":
            model_key, rows_key = (
                digest(shaping_fields("download", {k: given[k]})) for k in ("model", "datasets")
            )
            return {"model": model(digest=model_key), "datasets": (rows_key,)}
        case "prepare":
            reads = {"model": given["model"]["digest"], "datasets": given["datasetKeys"]}
            prepared = key("prepare", given | {"model": {"template": given.get("template")}}, reads)
            return {"key": prepared, "train_key": key("train", given, {"prepared": prepared})}
        case "train":
            return {"key": given["key"], "adapter": artifact("adapter")}
        case _:
            return {"key": key("export", given, {"trained": given["trained"]})}
