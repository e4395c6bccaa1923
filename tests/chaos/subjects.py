"""What the disturbed runs train: a tiny model, in seconds, or the sample, whose model is a real one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from builders import merged
from cluster import samples
from e2e.tenant import Object, Store
from hubs.private import DATASET
from lorafinetune.contract.arguments import STAGES

SAMPLE: Final = samples.ROOT / "samples" / "smollm2-emollm.yaml"
Changes = Mapping[str, Any]


class TinyStore(Store):
    """A bucket with a tiny model. Its rows are on a hub, where one is at hand."""

    def spec(self, prefix: str, changes: Changes | None = None) -> Object:
        spec = super().spec(prefix, changes)
        if not self.hub:
            return spec
        connection = {"name": "hub", "endpoint": self.hub}
        datasets = [DATASET | {"connection": "hub"}]
        return spec | {"connections": [*spec["connections"], connection], "datasets": datasets}


class SampleStore(Store):
    """A bucket with SmolLM2 and the sample's rows."""

    def fill(self, folder: Path) -> None:
        del folder
        samples.fill(self.endpoint, self.bucket)

    def spec(self, prefix: str, changes: Changes | None = None) -> Object:
        """The sample, whose inputs are here, and whose outputs lie below the prefix."""
        text = json.dumps(yaml.safe_load(SAMPLE.read_text())["spec"])
        places = {
            "s3://samples/": f"s3://{self.bucket}/",
            "s3://finetunes/demo": f"s3://{self.bucket}/{prefix}",
        }
        for theirs, ours in places.items():
            text = text.replace(theirs, ours)
        spec: Object = json.loads(text)
        spec["connections"][0]["endpoint"] = self.inside
        for stage in STAGES:
            spec["resources"].setdefault(stage, {})["requests"] = {"cpu": "0.2"}
        return merged(spec, changes or {})


@dataclass(frozen=True)
class Subject:
    """changes: of its spec, so that a training has checkpoints to go on from, and a scratch that can be
    filled. disk: the size of its store, of memory, of which only what is used is taken. patience: seconds in
    which a run ends."""

    store: type[Store]
    changes: Changes
    disk: str
    patience: float


TINY: Final = Subject(
    TinyStore,
    {
        "training": {"maxSteps": 600, "evaluation": {"everySteps": 300}, "checkpoint": {"every": 50}},
        "resources": {"train": {"scratch": "256Mi"}},
    },
    "1g",
    420,
)
SMOLLM2: Final = Subject(
    SampleStore,
    {
        "training": {"maxSteps": 12, "evaluation": {"everySteps": 6}, "checkpoint": {"every": 2}},
        "resources": {"train": {"scratch": "4Gi"}},
    },
    "8g",
    1800,
)
SUBJECTS: Final[Mapping[str, Subject]] = {"tiny": TINY, "smollm2": SMOLLM2}
