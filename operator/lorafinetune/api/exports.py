"""What is made from an adapter, and who is told about it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lorafinetune.api.sources import PUBLISH_TARGET, plain_path
from lorafinetune.api.types import Label, Model, Rule, Subdomain, form, list_map


class Merged(Model):
    """The adapter merged into the base model."""

    max_shard_size: Annotated[
        str, Field(pattern=r"^[1-9][0-9]{0,4}(MB|GB)$", max_length=7), form("a size like 500MB or 2GB")
    ] = "2GB"
    """Largest safetensors file."""
    checkpoint: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Optimizer step of a checkpoint that the training has kept, whose adapter is merged in place of the
    training's result; nothing is trained again. Losses, `evaluation.gate` and the kept adapter stay those of
    the result."""


class Publish(Model):
    """One place to publish the merged model to."""

    rules: ClassVar = (plain_path("to"),)

    to: Annotated[
        str,
        Field(pattern=PUBLISH_TARGET, max_length=512),
        form("hf://OWNER/NAME, modelscope://OWNER/NAME or s3://BUCKET/PREFIX"),
    ]
    """`hf://OWNER/NAME`, `modelscope://OWNER/NAME` or `s3://BUCKET/PREFIX`. A hub's repository is made where
    it is missing, and gets one commit; what it holds beside the weights and under other names stays. Its NAME
    must be one that the licence of the base allows, where we know of a rule: Llama 3 and later, GLM-4."""
    connection: Label | None = None
    """Connection with the credentials of the target; a hub's token needs the right to write."""
    visibility: Literal["private", "public"] = "private"
    """Visibility of a hub's repository that is created; one that is there keeps its own."""


class Tracker(Model):
    """One experiment tracker that is told of the run."""

    rules: ClassVar = (
        Rule(
            "self.name == 'mlflow' ? has(self.experiment) : !has(self.experiment)",
            "experiment is where mlflow has the run: mlflow needs it, and no other tracker has it",
            ".experiment",
        ),
        Rule(
            "self.name == 'wandb' ? has(self.project) : !has(self.project) && !has(self.entity)",
            "project and entity are where wandb has the run: wandb needs a project, no other tracker has one",
            ".project",
        ),
        Rule(
            "self.name != 'mlflow' || has(self.connection)",
            "mlflow needs a connection, with the endpoint of its server",
            ".connection",
        ),
        Rule(
            "self.name != 'wandb' || has(self.connection)",
            "wandb needs a connection, with the Secret that has its key",
            ".connection",
        ),
        Rule(
            "self.name != 'tensorboard' || !has(self.connection)",
            "tensorboard has no connection: what it reads lies in the store",
            ".connection",
        ),
    )

    name: Literal["tensorboard", "mlflow", "wandb"]
    """`tensorboard`: event files in the store, in the folder `tensorboard` beside the page about the run.
    `mlflow`: a run on an MLflow server. `wandb`: a run at Weights & Biases, or on a server of its kind."""
    experiment: (
        Annotated[
            str,
            Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=250),
            form("the name of an experiment, in one line"),
        ]
        | None
    ) = None
    """MLflow's experiment, which is made where it is missing."""
    entity: (
        Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=64), form("the name of a user or team")]
        | None
    ) = None
    """The user or team of W&B whose project it is. Absent: the one that the key belongs to."""
    project: (
        Annotated[
            str,
            Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=128),
            form("the name of a project, of letters, digits, -, _ and ."),
        ]
        | None
    ) = None
    """W&B's project, which is made where it is missing."""
    connection: Label | None = None
    """Connection with the `endpoint` of the server, which may be absent for `wandb`, and with a Secret where
    the server asks for one."""


class ConfigMapTarget(Model):
    """A ConfigMap that says where the outputs are, for those that consume them."""

    name: Subdomain
    """Name of the ConfigMap, in the resource's namespace. An existing ConfigMap of that name that is not the
    resource's own is left alone."""


class Export(Model):
    """What is made of the adapter, which is always kept."""

    rules: ClassVar = (
        Rule(
            "!has(self.publish) || size(self.publish) == 0 || has(self.merged)",
            "publish needs merged",
            ".publish",
        ),
    )

    merged: Merged | None = None
    """Merge the adapter into the base model. Absent: the adapter alone."""
    publish: Annotated[tuple[Publish, ...], list_map("to"), Field(max_length=8)] = ()
    """Where the merged model is published to."""
    trackers: Annotated[tuple[Tracker, ...], list_map("name"), Field(max_length=3)] | None = None
    """Experiment trackers that are told of the run once its training is done: curves, hyperparameters, the
    result and where it is. One that can't be told is a warning, and fails no run. Absent: none."""
    config_map: ConfigMapTarget | None = None
    """Keep a ConfigMap with the URIs and digests of the outputs once the run is complete. Absent: none. A
    local run makes none."""
