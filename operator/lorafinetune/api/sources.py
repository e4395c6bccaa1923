"""What is read and written, and with whose credentials: connections, the model, the store."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lorafinetune.api.types import Label, Model, Rule, Subdomain, form

HUGGING_FACE = "hf://"
HUBS = (HUGGING_FACE, "modelscope://")
"""How a repository of a hub begins, whose revisions are commits."""
S3 = "s3://"
LOCAL = "file://"
"""How a path of the machine that runs the stages begins, which means something in local runs only."""
BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
MODEL_SOURCE = rf"^((hf|modelscope)://[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+|s3://{BUCKET}(/[^/\x00-\x1f]+)*|file://[^\x00-\x1f]+)$"
HOST = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*(:[1-9][0-9]{0,4})?"
DATASET_SOURCE = rf"^((hf|modelscope)://[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+(/[^/\x00-\x1f]+)*|s3://{BUCKET}(/[^/\x00-\x1f]+)+/?|https://{HOST}(/[^/?#\x00-\x20]+)+|file://[^\x00-\x1f]+)$"
STORAGE_URI = rf"^(s3://{BUCKET}(/[A-Za-z0-9_.=-]+)*|file://[^\x00-\x1f]+)$"
PUBLISH_TARGET = rf"^((hf|modelscope)://[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+|s3://{BUCKET}(/[^/\x00-\x1f]+)*)$"
Revision = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]*$", max_length=128),
    form("the name of a branch or tag, or a commit"),
]


def plain_path(field: str) -> Rule:
    """A client may resolve `..`, and so reach another prefix or bucket."""
    return Rule(
        f"self.{field}.startsWith('file://') || !self.{field}.matches('/[.][.]?(/|$)')",
        "has the part . or ..: write the path that is meant",
        f".{field}",
    )


class SecretReference(Model):
    """A Secret of the resource's own namespace. There is no `namespace` field, on purpose."""

    name: Subdomain
    """Name of the Secret."""


class Connection(Model):
    """How to reach a store, a hub or a tracker, and with whose credentials."""

    name: Label
    """Name by which sources, storage, publish targets and trackers refer to this connection."""
    endpoint: (
        Annotated[
            str,
            Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?$", max_length=253),
            form("an http:// or https:// URL without user, query or fragment"),
        ]
        | None
    ) = None
    """URL of an S3-compatible server or of a hub's mirror. Absent: the public one. Editing it
    neither reads nor moves anything again: to get other files from a source, change the annotation
    `lorafinetune.dev/refresh` too."""
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$", max_length=32), form("a region like us-east-1")] = (
        "us-east-1"
    )
    """Region of the S3 bucket."""
    addressing: Literal["path", "virtual"] = "path"
    """Where the bucket's name stands in an S3 URL."""
    secret_ref: SecretReference | None = None
    """Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and optional AWS_SESSION_TOKEN for S3, with
    `token` for a hub or a tracker, or with `username` and `password` for MLflow. Absent: the identity of the
    pod's service account, or anonymous."""


class BaseModelSource(Model):
    """The pretrained model that is tuned."""

    rules: ClassVar = (plain_path("source"),)

    source: Annotated[
        str,
        Field(pattern=MODEL_SOURCE, max_length=512),
        form("hf://OWNER/NAME, modelscope://OWNER/NAME, s3://BUCKET/PREFIX or file://PATH"),
    ]
    """`hf://OWNER/NAME`, `modelscope://OWNER/NAME`, `s3://BUCKET/PREFIX`, or, in local runs only,
    `file://PATH`."""
    revision: Revision | None = None
    """Branch, tag or commit of a hub's repository; resolved to a commit once, which is kept."""
    template: (
        Annotated[
            str, Field(pattern=r"^[a-z0-9_.-]+$", max_length=64), form("a template's name, like glm4 or qwen")
        ]
        | None
    ) = None
    """LLaMA-Factory's name of the chat template. Absent: inferred from the model, and refused when it
    can't be."""
    connection: Label | None = None
    """Connection used to fetch the model."""


class Storage(Model):
    """Where every stage leaves its output."""

    rules: ClassVar = (plain_path("uri"),)

    uri: Annotated[str, Field(pattern=STORAGE_URI, max_length=512), form("s3://BUCKET/PREFIX or file://PATH")]
    """`s3://BUCKET/PREFIX`, or, in local runs only, `file://PATH`. The place belongs to this namespace.
    Once the model is there, another place needs another resource: what was made stays where it is."""
    connection: Label | None = None
    """Connection of the store."""
