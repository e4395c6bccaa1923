"""A training on several nodes: an Indexed Job, and the Service by whose name its pods find the first of them.

The pods are one training, so they end together: the Job never replaces a single pod. Libraries that talk from
rank to rank listen on ports that the kernel chooses, so the kernel gets a range that a NetworkPolicy can let
through.
"""

from typing import Any, Final

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import StageName
from lorafinetune.contract.arguments import MEETING_VARIABLE, NODES_VARIABLE
from lorafinetune.contract.keys import digest

Object = dict[str, Any]

NODES_LABEL: Final = "lorafinetune.dev/nodes"
"""On the pods of a training that has several."""
MEETING_PORT: Final = 29400
"""Of the first pod's stage; its first rank listens on the next one."""
PORTS: Final = (29500, 32499)
"""What the ranks listen on: ports that the kernel gives to whoever names none."""


def nodes_of(stage: StageName, resource: LoRAFineTune) -> int:
    return resource.spec.resources.train.nodes if stage == "train" else 1


def spread(spec: Object, stage: StageName, job: str, resource: LoRAFineTune) -> Object:
    """The spec of a Job of one pod → the same of one pod a node. job: its name."""
    nodes = nodes_of(stage, resource)
    if nodes == 1:
        return spec
    template = spec["template"]
    labels = template["metadata"]["labels"] | {NODES_LABEL: str(nodes)}
    return spec | {
        "completions": nodes,
        "parallelism": nodes,
        "completionMode": "Indexed",
        "podFailurePolicy": {
            "rules": [
                {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
            ]
        },
        "template": {"metadata": {"labels": labels}, "spec": _pod(template["spec"], nodes, job, resource)},
    }


def service(job: Object) -> Object | None:
    """The Service that is to be there before a Job; None where the Job has one pod. It belongs to the
    resource, and serves every attempt."""
    if job["spec"].get("completionMode") != "Indexed":
        return None
    template, meta = job["spec"]["template"], job["metadata"]
    labels = {name: value for name, value in template["metadata"]["labels"].items() if name != NODES_LABEL}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": template["spec"]["subdomain"],
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": meta["ownerReferences"],
        },
        "spec": {
            "clusterIP": "None",
            "selector": labels,
            "publishNotReadyAddresses": True,
            "ports": [{"name": "meeting", "port": MEETING_PORT}],
        },
    }


def _pod(pod: Object, nodes: int, job: str, resource: LoRAFineTune) -> Object:
    (container,) = pod["containers"]
    subdomain = _service_name(resource)
    environment = [
        *container["env"],
        {"name": NODES_VARIABLE, "value": str(nodes)},
        {"name": MEETING_VARIABLE, "value": f"{job}-0.{subdomain}:{MEETING_PORT}"},
    ]
    ports = {"name": "net.ipv4.ip_local_port_range", "value": "{} {}".format(*PORTS)}
    return pod | {
        "subdomain": subdomain,
        "securityContext": pod["securityContext"] | {"sysctls": [ports]},
        "containers": [container | {"env": environment}],
    }


def _service_name(resource: LoRAFineTune) -> str:
    """Begins with a letter, as the name of a Service must."""
    meta = resource.metadata
    own = digest([meta.uid])[:8]
    return f"lft-{meta.name[:30].rstrip('-.')}-{own}".replace(".", "-")
