"""The base model and the datasets as the world knows them: never by a path of a machine."""

from pathlib import PurePosixPath
from typing import Final

from lorafinetune.api.status import ModelStatus

HUBS: Final = ("hf", "modelscope")


def source_name(source: str) -> str:
    """The URI of a source; the bare name of a local path."""
    scheme, _, path = source.partition("://")
    return PurePosixPath(path).name if scheme == "file" else source


def base_name(model: ModelStatus) -> str:
    """`OWNER/NAME` for a hub, else as any source."""
    scheme, _, path = model.source.partition("://")
    return path if scheme in HUBS else source_name(model.source)


def base_revision(model: ModelStatus) -> str | None:
    """The commit, where the source has commits."""
    return model.revision if model.source.partition("://")[0] in HUBS else None
