"""What a person writes: the `spec` of a LoRAFineTune.

One declaration per field yields the CRD, the decoder and the reference page. A default that shapes
a result stands here, so it is fixed when the resource is admitted.
"""

from typing import Annotated, ClassVar

from pydantic import Field

from lorafinetune.api.datasets import Dataset
from lorafinetune.api.exports import Export
from lorafinetune.api.pods import Resources, Scheduling
from lorafinetune.api.sources import BaseModelSource, Connection, Storage
from lorafinetune.api.training import BATCH_SIZE, Training
from lorafinetune.api.types import Model, Rule, Seconds, list_map


def _known_connection(holder: str, path: str) -> Rule:
    known = "self.connections.exists(c, c.name == {})"
    return Rule(
        f"!has({holder}.connection) || " + known.format(f"{holder}.connection"),
        "names a connection that is not in spec.connections",
        path,
    )


class LoRAFineTuneSpec(Model):
    """The desired fine-tuning."""

    rules: ClassVar = (
        _known_connection("self.model", ".model.connection"),
        _known_connection("self.storage", ".storage.connection"),
        Rule(
            "self.datasets.all(d, !has(d.connection) || self.connections.exists(c, c.name == d.connection))",
            "a dataset names a connection that is not in spec.connections",
            ".datasets",
        ),
        Rule(
            "self.export.publish.all(p, !has(p.connection) || "
            "self.connections.exists(c, c.name == p.connection))",
            "a publish target names a connection that is not in spec.connections",
            ".export.publish",
        ),
        Rule(
            "!has(self.export.trackers) || self.export.trackers.all(t, !has(t.connection) || "
            "self.connections.exists(c, c.name == t.connection))",
            "a tracker names a connection that is not in spec.connections",
            ".export.trackers",
        ),
        Rule(
            "!has(self.export.trackers) || self.export.trackers.all(t, t.name != 'mlflow' || "
            "!has(t.connection) || self.connections.all(c, c.name != t.connection || has(c.endpoint)))",
            "mlflow's connection has no endpoint: give it the address of the server",
            ".export.trackers",
        ),
        Rule(
            "self.datasets.all(d, !has(d.name) || "
            "self.datasets.exists_one(e, has(e.name) && e.name == d.name))",
            "two datasets have the same name",
            ".datasets",
        ),
        Rule(
            "self.datasets.all(d, d.format == 'auto' || self.training.objective == "
            "(d.format == 'preference' ? 'dpo' : (d.format == 'text' ? 'pt' : 'sft')))",
            "a format does not go with training.objective: preference is for dpo, text for pt, "
            "and every other for sft",
            ".datasets",
        ),
        Rule(
            "self.training.objective != 'pt' || !self.datasets.exists(d, has(d.system))",
            "a dataset's system does not go with training.objective: pt, whose texts have no system prompt",
            ".datasets",
        ),
        Rule(
            "self.training.sampling == 'proportional' || !self.datasets.exists(d, has(d.weight))",
            "a dataset's weight needs training.sampling: proportional",
            ".datasets",
        ),
        Rule(
            "!has(self.training.evaluation) || !has(self.training.evaluation.dataset) || "
            "self.datasets.exists(d, has(d.name) && d.name == self.training.evaluation.dataset)",
            "names no dataset of spec.datasets",
            ".training.evaluation.dataset",
        ),
        Rule(
            "self.resources.train.gpu.count <= 1 || has(self.training.batchTokens) || "
            f"(has(self.training.batchSize) ? self.training.batchSize : {BATCH_SIZE}) % "
            "self.resources.train.gpu.count == 0",
            "must divide training.batchSize, the rows of a step, which GPUs share: change one of the two",
            ".resources.train.gpu.count",
        ),
        Rule(
            "self.resources.train.gpu.count <= 1 || self.training.objective != 'dpo'",
            "objective: dpo trains on one GPU: set it to 1",
            ".resources.train.gpu.count",
        ),
        Rule(
            "self.resources.train.nodes <= 1 || has(self.training.batchTokens) || "
            f"(has(self.training.batchSize) ? self.training.batchSize : {BATCH_SIZE}) % "
            "(self.resources.train.nodes * (self.resources.train.gpu.count > 1 ? "
            "self.resources.train.gpu.count : 1)) == 0",
            "nodes times gpu.count must divide training.batchSize, the rows of a step, which all share: "
            "change one of them",
            ".resources.train.nodes",
        ),
        Rule(
            "self.resources.train.sharding == 'none' || "
            "self.resources.train.nodes * self.resources.train.gpu.count > 1",
            "fsdp2 splits the base over several GPUs: ask for more than one, or set it to none",
            ".resources.train.sharding",
        ),
        Rule(
            "self.resources.train.sharding == 'none' || (self.training.quantization == 'none' && "
            "self.training.precision != 'fp8' && self.training.lora.variant != 'dora')",
            "fsdp2 does not go with quantization: nf4, precision: fp8 or lora.variant: dora: change one",
            ".resources.train.sharding",
        ),
        Rule(
            "self.resources.train.nodes <= 1 || self.training.objective != 'dpo'",
            "objective: dpo trains on one node: set it to 1",
            ".resources.train.nodes",
        ),
    )

    connections: Annotated[tuple[Connection, ...], list_map("name"), Field(max_length=8)] = ()
    """Stores, hubs and trackers; the only place where Secrets are named."""
    model: BaseModelSource
    """The pretrained model that is tuned."""
    datasets: Annotated[tuple[Dataset, ...], Field(min_length=1, max_length=32)]
    """Datasets, merged in this order."""
    training: Training
    """Hyperparameters."""
    export: Export = Export()
    """What is made of the adapter, which is always kept."""
    storage: Storage
    """Where every stage leaves its output."""
    resources: Resources = Resources()
    """Compute resources by stage."""
    scheduling: Scheduling = Scheduling()
    """Where and with what standing the pods run."""
    active_deadline_seconds: Seconds | None = None
    """Longest time that one stage's attempt may take."""
    suspend: bool = False
    """Stop after a checkpoint, and stay stopped."""
    max_retries: Annotated[int, Field(ge=0, le=100)] = 3
    """How often one stage is tried again after a failure that may pass. Preemptions don't count, nor does an
    attempt at the training that left a newer checkpoint than those before it."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    """Removes Jobs this long after the end, never the resource itself."""
