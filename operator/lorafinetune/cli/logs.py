"""`lorafinetune logs`: what the pod of a run's stage writes, while it runs and afterwards."""

import re
from collections.abc import Iterator
from typing import Final

from lorafinetune.api.status import StageName
from lorafinetune.cli.cluster import ApiError, Cluster, Object
from lorafinetune.cli.errors import CommandError
from lorafinetune.cli.output import errors, output
from lorafinetune.contract.loglines import plain
from lorafinetune.core.observed import NAME_LABEL, STAGE_LABEL
from lorafinetune.core.pods import has_ended, newest_first, node_of

QUIET_SECONDS: Final = 4 * 3600.0
"""A stage may say nothing for long."""
NO_POD: Final = (
    "NotFound: {name} has no pod{of}: none has been made yet, or its Job has been removed. "
    "`lorafinetune watch {name} -n {namespace}` shows where it stands."
)
BREAKS: Final = re.compile(r"[\r\n]+")


def show_logs(cluster: Cluster, name: str, stage: StageName | None, follow: bool, tail: int | None) -> None:
    """Prints the log of the running stage's pod, or else of the last. Raises CommandError.

    follow: to the pod's end. tail: how many of its last lines; None: all.
    """
    cluster.run(name)
    pod = _pod(cluster, name, stage)
    if follow:
        pod = _started(cluster, pod)
    query = {"follow": str(follow and not has_ended(pod)).lower()}
    query |= {} if tail is None else {"tailLines": str(tail)}
    where = cluster.where("pods", pod["metadata"]["name"], "log")
    errors.print(f"{_stage(pod)}: pod {pod['metadata']['name']}")
    for line in cluster.lines(where, query, QUIET_SECONDS):
        said = (part for told in plain(line.decode(errors="replace")) for part in BREAKS.split(told))
        parts = [part for part in said if part]
        for part in parts or [""]:
            output.print(part.replace("\t", "    "))


def _pod(cluster: Cluster, name: str, stage: StageName | None) -> Object:
    """The newest pod that runs, or else the newest. Of several nodes the first one tells."""
    selector = f"{NAME_LABEL}={name}" + (f",{STAGE_LABEL}={stage}" if stage else "")
    found = cluster.list("pods", cluster.namespace, {"labelSelector": selector})
    pods = sorted(newest_first(found), key=node_of)
    if not pods:
        raise CommandError(
            NO_POD.format(name=name, namespace=cluster.namespace, of=f" of {stage}" if stage else "")
        )
    return next((dict(pod) for pod in pods if not has_ended(pod)), dict(pods[0]))


def _started(cluster: Cluster, pod: Object) -> Object:
    """The pod once its container has begun."""
    if _phase(pod) != "Pending":
        return pod
    errors.print(f"{_stage(pod)}: waiting for the pod {pod['metadata']['name']} to start")
    for kind, seen in _states(cluster, pod["metadata"]["name"]):
        if kind == "DELETED":
            break
        if kind != "BOOKMARK" and _phase(seen) != "Pending":
            return seen
    raise CommandError("NotFound: the pod has gone before it began")


def _states(cluster: Cluster, name: str) -> Iterator[tuple[str, Object]]:
    """What happens to the pod; a watch that ends is begun anew."""
    while True:
        try:
            yield from cluster.watch("pods", {"fieldSelector": f"metadata.name={name}"})
        except ApiError as problem:
            if problem.status != 410:
                raise


def _phase(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def _stage(pod: Object) -> str:
    return str(pod["metadata"]["labels"].get(STAGE_LABEL, "pod"))
