"""The resource as a whole: metadata, spec and status."""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from lorafinetune.api.spec import LoRAFineTuneSpec
from lorafinetune.api.status import LoRAFineTuneStatus
from lorafinetune.api.types import UNREAD, Count, Label, Line, Model, Rule, Subdomain

REFRESH_ANNOTATION = "lorafinetune.dev/refresh"
"""A new value resolves the floating revisions of model and datasets anew."""


UNREAD_METADATA = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "finalizers",
    "generateName",
    "labels",
    "managedFields",
    "ownerReferences",
    "selfLink",
)


class Metadata(Model):
    """The parts of Kubernetes' metadata that are read; the rest passes by."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={UNREAD: list(UNREAD_METADATA)})

    name: Subdomain
    namespace: Label = "default"
    uid: Line = ""
    generation: Count = 1
    resource_version: Line = ""
    annotations: Annotated[dict[str, str], Field(max_length=1000)] = {}
    deletion_timestamp: Line | None = None


class LoRAFineTune(Model):
    """One fine-tuning of a language model, from download to export."""

    rules: ClassVar = (
        Rule("size(self.metadata.name) <= 40", "metadata.name must have at most 40 characters"),
        Rule(
            "!has(oldSelf.status) || !has(oldSelf.status.model) || "
            "self.spec.storage.uri == oldSelf.spec.storage.uri",
            "can't be changed once the model is there: make another resource",
            ".spec.storage.uri",
        ),
    )

    api_version: Literal["lorafinetune.dev/v1alpha1"]
    """Version of this schema."""
    kind: Literal["LoRAFineTune"]
    """Name of this schema."""
    metadata: Metadata
    """Name, namespace, labels and annotations."""
    spec: LoRAFineTuneSpec
    """What is wanted."""
    status: LoRAFineTuneStatus | None = None
    """What was observed."""
