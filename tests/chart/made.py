"""What the operator makes of a resource, beside the NetworkPolicies that a tenant's namespace has."""

from typing import Final

from chart.helm import TENANT, Object, render
from lorafinetune.api.pods import Resources
from lorafinetune.contract.arguments import STAGES
from lorafinetune.contract.https import HttpsSources
from lorafinetune.core.handover import config_map
from lorafinetune.core.jobs import Receiver, Settings
from lorafinetune.core.nodes import service
from lorafinetune.core.observed import STAGE_LABEL
from unit.world import World

TEAM: Final = "team-a"
STORE: Final = {"name": "store", "endpoint": "https://s3.example", "secretRef": {"name": "s3"}}
HUB: Final = {"name": "hub", "secretRef": {"name": "hub"}}
TRACKER: Final = {"name": "tracker", "endpoint": "https://mlflow.example", "secretRef": {"name": "tracker"}}
COMPUTE: Final = {"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"cpu": "8", "memory": "32Gi"}}
FULLEST: Final[Object] = {
    "connections": [STORE, HUB, TRACKER],
    "model": {"connection": "hub"},
    "datasets": [{"source": "https://data.example/rows.jsonl"}],
    "export": {
        "merged": {},
        "publish": [{"to": "hf://team/model", "connection": "hub"}],
        "trackers": [{"name": "mlflow", "experiment": "runs", "connection": "tracker"}],
        "configMap": {"name": "outputs"},
    },
    "resources": dict.fromkeys(Resources.model_fields, COMPUTE) | {"train": {**COMPUTE, "nodes": 2}},
    "scheduling": {
        "priorityClassName": "high",
        "nodeSelector": {"pool": "gpus"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "serviceAccountName": "trainer",
        "imagePullSecrets": [{"name": "pull"}],
    },
    "activeDeadlineSeconds": 86400,
}
"""A resource that leads to every object, and to what a pod can have."""
SETTINGS: Final = Settings(
    images=dict.fromkeys(STAGES, f"registry.example/image@sha256:{'0' * 64}"),
    https=HttpsSources(hosts=("data.example",)),
    receiver=Receiver("https://lorafinetune.lorafinetune-system.svc:8443", "the certificates"),
    log_format="json",
)


def made_of(spec: Object) -> list[Object]:
    """All of a run whose stages succeed, and the policies for its pods."""
    world = World(spec)
    world.settings = SETTINGS
    world.run_to_end()
    assert [job["metadata"]["labels"][STAGE_LABEL] for job in world.created] == [*STAGES]
    there = [service(job) for job in world.created] + [config_map(world.resource)]
    return [*world.created, *filter(None, there), *_policies()]


def _policies() -> list[Object]:
    return [one for one in render(TENANT, namespace=TEAM) if one["kind"] == "NetworkPolicy"]
