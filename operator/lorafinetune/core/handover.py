"""What a complete run hands to others: a ConfigMap that says where its outputs are.

It is as new as the last end of the run: while an edited run is on its way, and also if it fails, what
it made before is still there, and so is the ConfigMap.
"""

from typing import Any

from lorafinetune.api.artifacts import Artifact, Artifacts
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import LoRAFineTuneStatus, TrainingStatus
from lorafinetune.core.observed import NAME_LABEL, OURS
from lorafinetune.core.plan import is_finished
from lorafinetune.core.steps import owner


def config_map_name(resource: LoRAFineTune) -> str | None:
    """The ConfigMap that the spec asks for."""
    wanted = resource.spec.export.config_map
    return wanted.name if wanted else None


def config_map(resource: LoRAFineTune) -> dict[str, Any] | None:
    """The ConfigMap that is to be there now; None: the run asks for none, or is not complete."""
    name, status = config_map_name(resource), resource.status
    if name is None or status is None or not _is_complete(resource, status):
        return None
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": resource.metadata.namespace,
            "labels": {NAME_LABEL: resource.metadata.name, **dict([OURS])},
            "ownerReferences": [owner(resource)],
        },
        "data": data(status),
    }


def data(status: LoRAFineTuneStatus) -> dict[str, str]:
    """Names that an environment takes too, and their values; what is not known has none."""
    made, training = status.artifacts or Artifacts(), status.training or TrainingStatus()
    told = {
        **_where("ADAPTER", made.adapter),
        **_where("MERGED", made.merged),
        "REPORT_URI": made.report,
        "BASE_MODEL": status.model and status.model.source,
        "BASE_REVISION": status.model and status.model.revision,
        "BASE_DIGEST": status.model and status.model.digest,
        "EVAL_LOSS": training.best_eval_loss or training.eval_loss,
        "BASE_EVAL_LOSS": training.base_eval_loss,
    }
    return {name: value for name, value in told.items() if value}


def _where(name: str, artifact: Artifact | None) -> dict[str, str]:
    return {f"{name}_URI": artifact.uri, f"{name}_DIGEST": artifact.digest} if artifact else {}


def _is_complete(resource: LoRAFineTune, status: LoRAFineTuneStatus) -> bool:
    complete = any(each.type == "Complete" and each.status == "True" for each in status.conditions)
    return complete and is_finished(resource)
