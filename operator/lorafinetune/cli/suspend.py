"""`lorafinetune suspend` and `resume` set the field `spec.suspend`."""

from typing import Final

from lorafinetune.cli.cluster import Cluster
from lorafinetune.cli.output import Format, emit, full_name, output, printed

DONE: Final = {
    True: "suspended: it stops after a checkpoint; `lorafinetune resume {name} -n {namespace}` goes on",
    False: "resumed",
}


def set_suspend(cluster: Cluster, name: str, suspend: bool, form: Format) -> None:
    """Raises ApiError."""
    run = cluster.merge(name, {"spec": {"suspend": suspend}})
    if form is Format.TEXT:
        output.print(f"{full_name(name)} {DONE[suspend].format(name=name, namespace=cluster.namespace)}")
    else:
        emit(printed([run], form))
