"""The peer: Kubeflow Trainer's controller, which makes a JobSet of each TrainJob.

It gets the API server, the arrivals and the machine that our operator gets. What it does is less: one object
of one stage, from a template that is there already.
"""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bench.operator.fleet import arrive
from bench.operator.measure import (
    ARRIVE,
    CALLS_TO_FIRST,
    FIRST_JOBS,
    TO_FIRST,
    WITHIN,
    Plan,
    Values,
    names,
    percentiles,
    percents,
    to_first_job,
)
from bench.operator.reach import EMPTY, MEMORY
from bench.operator.usage import Meter, operator_memory
from cluster.apiserver import ApiServer
from cluster.build import binary, module_folder
from cluster.certificates import Authority
from cluster.client import Client
from cluster.process import Process, fetch, free_port
from cluster.sources import PEERS

PROGRAM: Final = "trainer-controller-manager"
TITLE: Final = f"Kubeflow Trainer {PEERS[PROGRAM].version().removeprefix('v')}"
NAMESPACE: Final = "peer"
TRAIN_JOBS: Final = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
JOB_SETS: Final = f"/apis/jobset.x-k8s.io/v1alpha2/namespaces/{NAMESPACE}/jobsets"
RUNTIME: Final = "torch-distributed"
DEFINITIONS: Final = {
    "github.com/kubeflow/trainer/v2": ("manifests/base/crds", "manifests/base/runtimes"),
    "sigs.k8s.io/jobset": ("config/components/crd/bases",),
}
"""Folders of YAML by Go module: definitions, and the runtime that TrainJobs name."""
POLL: Final = 0.2


class Trainer:
    """Kubeflow Trainer's controller as a process, with its definitions in the API server."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        health, webhook, metrics = (free_port() for _ in range(3))
        self.url = f"http://127.0.0.1:{metrics}/metrics"
        self._health = f"http://127.0.0.1:{health}/healthz"
        self._client = Client(server.kubeconfig)
        configuration = {
            "apiVersion": "config.trainer.kubeflow.org/v1alpha1",
            "kind": "Configuration",
            "certManagement": {"enable": False},
            "webhook": {"host": "127.0.0.1", "port": webhook},
            "metrics": {"bindAddress": f"127.0.0.1:{metrics}", "secureServing": False},
            "health": {"healthProbeBindAddress": f"127.0.0.1:{health}"},
        }
        file = folder / "trainer.yaml"
        file.write_text(yaml.safe_dump(configuration))
        certify(folder / "k8s-webhook-server" / "serving-certs")
        environment = {"KUBECONFIG": str(server.kubeconfig), "TMPDIR": str(folder)}
        command = [str(binary(PROGRAM)), f"--config={file}"]
        self._process = Process(command, folder / "trainer.log", environment)

    def start(self) -> None:
        self._client.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        for module, folders in DEFINITIONS.items():
            for folder in folders:
                self._serve(module_folder(PEERS[PROGRAM], module) / folder)
        for collection in (TRAIN_JOBS, JOB_SETS):
            until_served(partial(self._client.get, collection))
        self._process.start(lambda: fetch(self._health))

    def stop(self) -> None:
        self._process.stop()

    def calls(self) -> float:
        """What it asked of the API server so far, its watches too."""
        families = text_string_to_metric_families(fetch(self.url).decode())
        samples = (sample for family in families for sample in family.samples)
        return sum(sample.value for sample in samples if sample.name == "rest_client_requests_total")

    def _serve(self, folder: Path) -> None:
        wanted = ("CustomResourceDefinition", "ClusterTrainingRuntime")
        for file in sorted(folder.glob("*.yaml")):
            documents = [each for each in yaml.safe_load_all(file.read_text()) if each]
            for document in documents:
                is_other = document["kind"] == wanted[1] and document["metadata"]["name"] != RUNTIME
                if document["kind"] in wanted and not is_other:
                    until_served(partial(self._client.apply, document))


def until_served(ask: Callable[[], object]) -> None:
    """What was defined just now is not known at once: it is not found, which is said in no JSON."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError):
            ask()
            return
        time.sleep(POLL)
    ask()


class Peer:
    """TrainJobs that arrive, and the JobSets that are seen."""

    def __init__(
        self, plan: Plan, server: ApiServer, trainer: Trainer, session: aiohttp.ClientSession
    ) -> None:
        self._plan = plan
        self._url = server.url
        self._trainer = trainer
        self._session = session
        self._created: dict[str, float] = {}
        self._seen: dict[str, float] = {}

    async def measure(self) -> Values:
        empty = round(operator_memory()[0])
        watch = asyncio.create_task(self._watch())
        steady, burst = names("steady", self._plan.lives), names("burst", self._plan.burst)
        meter = Meter()
        await self._arrive(steady, self._plan.rate)
        values: Values = {ARRIVE: self._plan.rate, **percents(meter.shares())}
        values |= percentiles(TO_FIRST, [self._seen[name] - self._created[name] for name in steady])
        began, meter, asked = time.monotonic(), Meter(), self._trainer.calls()
        await self._arrive(burst, None)
        values[FIRST_JOBS] = round(len(burst) / (time.monotonic() - began), 1)
        await asyncio.sleep(1)
        values |= to_first_job(meter, len(burst))
        values[CALLS_TO_FIRST] = round((self._trainer.calls() - asked) / len(burst), 2)
        watch.cancel()
        return {**values, EMPTY: empty, MEMORY: round(operator_memory()[0])}

    async def _arrive(self, arriving: list[str], rate: float | None) -> None:
        await arrive(self._create, arriving, rate)
        async with asyncio.timeout(WITHIN):
            while not self._seen.keys() >= set(arriving):
                await asyncio.sleep(POLL)

    async def _create(self, name: str) -> None:
        body = {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": {"name": name},
            "spec": {"runtimeRef": {"name": RUNTIME}, "trainer": {"image": "example.com/train:1"}},
        }
        async with self._session.post(self._url + TRAIN_JOBS, json=body) as answer:
            answer.raise_for_status()
        self._created[name] = time.monotonic()

    async def _watch(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.get(
            self._url + JOB_SETS, params={"watch": "true"}, timeout=timeout
        ) as response:
            async for line in response.content:
                name = json.loads(line)["object"]["metadata"]["name"]
                self._seen.setdefault(name, time.monotonic())


def certify(folder: Path) -> None:
    """What the webhooks' server wants, which nobody calls here."""
    folder.mkdir(parents=True)
    Authority(folder).issue("tls", hosts=["127.0.0.1"])
