"""The arguments of the four stages, passed as JSON in one environment variable.

A stage gets the parts of the spec that it reads and the results of the stages before it, and nothing
else: what is not here can't shape its output, and an edit of it does not run the stage again.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from lorafinetune.api.datasets import Dataset
from lorafinetune.api.exports import Export, Publish
from lorafinetune.api.pods import Gpu, TrainResources
from lorafinetune.api.sources import BaseModelSource, Connection, Revision, Storage
from lorafinetune.api.status import ModelStatus, StageName, StageStatus
from lorafinetune.api.training import Training
from lorafinetune.api.types import Digest, Line, Model, Quantity

STAGES: Final[tuple[StageName, ...]] = ("download", "prepare", "train", "export")

ARGUMENTS_VARIABLE: Final = "LORAFINETUNE_ARGUMENTS"
"""Holds the stage's arguments as JSON."""
MAX_ARGUMENTS_BYTES: Final = 100 * 1024
"""More than this in one variable can make exec fail."""
PROGRESS_VARIABLE: Final = "LORAFINETUNE_PROGRESS"
"""Path of the file in which a stage keeps its latest progress. Absent: progress is not reported."""
PROGRESS_URL_VARIABLE: Final = "LORAFINETUNE_PROGRESS_URL"
"""Where a stage posts its progress over TLS. Absent: it is not posted."""
PROGRESS_CA_VARIABLE: Final = "LORAFINETUNE_PROGRESS_CA"
"""The certificates, as PEM, by one of which that server proves who it is."""
PROGRESS_TOKEN_VARIABLE: Final = "LORAFINETUNE_PROGRESS_TOKEN_FILE"  # noqa: S105 - the name of a variable
"""Path of the token that says which pod posts; it is renewed in place."""
MESSAGE_VARIABLE: Final = "LORAFINETUNE_TERMINATION_MESSAGE"
"""Path of the termination message; by default Kubernetes' own."""
DEFAULT_MESSAGE_PATH: Final = "/dev/termination-log"
WORKDIR_VARIABLE: Final = "LORAFINETUNE_WORKDIR"
"""Scratch directory of the stage, empty at its start."""
NODES_VARIABLE: Final = "LORAFINETUNE_NODES"
"""How many pods train together. Absent: one does."""
MEETING_VARIABLE: Final = "LORAFINETUNE_MEETING"
"""`HOST:PORT` of the first of them, whose next port is its first rank's."""
INDEX_VARIABLE: Final = "JOB_COMPLETION_INDEX"
"""Which of them this is, from 0 on: Kubernetes' own variable."""
STORE_DIRECTORY_VARIABLE: Final = "LORAFINETUNE_STORE_DIRECTORY"
"""Directory that stands in for every S3 server in local runs: `DIR/BUCKET/KEY`."""


CREDENTIAL_PREFIX: Final = "CONNECTION_"
"""How the names of the variables with credentials begin."""


def credential_variable(connection: str, key: str) -> str:
    """Name of the variable that holds one credential of a connection, like
    `CONNECTION_STORE_AWS_ACCESS_KEY_ID`. Labels have no underscore, so two never collide."""
    return f"{CREDENTIAL_PREFIX}{connection.replace('-', '_')}_{key}".upper()


CREDENTIAL_KEYS: Final = {
    "AWS_ACCESS_KEY_ID": True,
    "AWS_SECRET_ACCESS_KEY": True,
    "AWS_SESSION_TOKEN": False,
}
"""Keys of an S3 connection's Secret, and whether each must be there."""
TOKEN_KEY: Final = "token"  # noqa: S105 - the name of a key, not a token
"""Key of a hub connection's Secret."""
USERNAME_KEY: Final = "username"
PASSWORD_KEY: Final = "password"  # noqa: S105 - the name of a key, not a password
TRACKER_KEYS: Final = {TOKEN_KEY: False, USERNAME_KEY: False, PASSWORD_KEY: False}
"""Keys of a tracker connection's Secret. None must be there: what is missing is a warning."""


class DatasetOrigin(Model):
    """Where one dataset comes from: the part of `Dataset` that shapes its bytes."""

    source: str
    revision: Revision | None = None
    connection: str | None = None


class StageArguments(Model):
    """What every stage gets."""

    storage: Storage
    connections: tuple[Connection, ...] = ()

    def connection(self, name: str | None) -> Connection | None:
        """The connection of that name, or None where none is named."""
        return next((c for c in self.connections if c.name == name), None)


class DownloadArguments(StageArguments):
    model: BaseModelSource
    datasets: tuple[DatasetOrigin, ...]
    refresh: Line = ""
    """Value of the annotation that asks for floating revisions to be resolved anew."""
    publish: tuple[Publish, ...] = ()
    """Where the merged model will be published: proven before anything is done, and in no key."""


class PrepareArguments(StageArguments):
    model: ModelStatus
    template: Line | None = None
    datasets: tuple[Dataset, ...]
    dataset_keys: tuple[Digest, ...]
    """Keys of the downloaded datasets, in the order of `datasets`."""
    training: Training
    config: dict[str, Any]
    """LLaMA-Factory arguments as rendered by the operator, without template, paths and device."""
    gpu: Gpu = Gpu()
    """The cards that the training will ask for, on each of its nodes."""
    nodes: Annotated[int, Field(ge=2)] | None = None
    """How many nodes it will have. Absent: one."""
    sharding: Literal["fsdp2"] | None = None
    """How its GPUs will split the base. Absent: each holds all of it."""
    scratch: Quantity = TrainResources().scratch
    """Size of the training's scratch directory."""
    publish: tuple[Publish, ...] = ()
    """Where the merged model will be published: its names are held against the licence, and are in no key."""


class TrainArguments(StageArguments):
    model: ModelStatus
    key: Digest
    """Content address of the training, from prepare's result."""
    prepared: Digest
    """Key of the prepared dataset."""
    training: Training
    config: dict[str, Any]
    """LLaMA-Factory arguments as rendered by the operator, without paths and device."""
    gpus: Annotated[int, Field(ge=0, le=1024)]
    sharding: Literal["fsdp2"] | None = None
    """How ranks split the base. Absent: each holds all of it."""


class RunFacts(Model):
    """What the page about a run says beside what the store has. stages: those before the export, which are
    done, so that nothing here changes while it runs."""

    name: Line
    namespace: Line
    objective: Line
    takes_best: bool = False
    """Whether the result is the best evaluation's."""
    stages: Annotated[tuple[StageStatus, ...], Field(max_length=4)] = ()


class ExportArguments(StageArguments):
    model: ModelStatus
    trained: Digest
    """Key of the training whose adapter is exported."""
    export: Export
    run: RunFacts | None = None
    """Absent: no page is written."""


ARGUMENTS: Final[dict[StageName, type[StageArguments]]] = {
    "download": DownloadArguments,
    "prepare": PrepareArguments,
    "train": TrainArguments,
    "export": ExportArguments,
}

Kind = Literal["models", "datasets", "prepared", "evaluations", "trainings", "exports"]


def place(kind: Kind, key: str) -> str:
    """Where an output lies, relative to `storage.uri`."""
    return f"{kind}/{key}"


CHECKPOINTS: Final = "checkpoints"
"""Folder of the checkpoints in the output of a training."""


def state_path(step: int, attempt: int) -> str:
    """Where an attempt keeps what it saves of a step, below the folder of what is saved. Attempts count from
    1; 0 is for what a version saved that did not tell them apart."""
    return f"{step}/{attempt}" if attempt else f"{step}"


ADAPTER: Final = "adapter"
"""Folder of the adapter in the output of a training."""
METRICS: Final = "metrics.jsonl"
"""The log of a training, beside its adapter: one JSON object a line."""
COMPARED: Final = "held_out.json"
"""Beside it, what each held-out row costs the base and the tuned model."""
ANSWERS: Final = "answers.json"
"""Beside it, what both say to some held-out prompts."""
LOCAL_RUNS: Final = "lorafinetune-runs"
"""Where `lorafinetune run` keeps what it knows of its runs, by namespace and name."""
RESOURCE_FILE: Final = "resource.yaml"
"""A local run with its status."""
