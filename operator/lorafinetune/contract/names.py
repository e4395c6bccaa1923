"""The base model and the datasets as the world knows them: never by a path of a machine."""

from pathlib import PurePosixPath

from lorafinetune.api.sources import HUBS, LOCAL
from lorafinetune.api.status import ModelStatus


def source_name(source: str) -> str:
    """The URI of a source; the bare name of a local path."""
    return PurePosixPath(source.removeprefix(LOCAL)).name if source.startswith(LOCAL) else source


def base_name(model: ModelStatus) -> str:
    """`OWNER/NAME` for a hub, else as any source."""
    source = model.source
    return source.partition("://")[2] if source.startswith(HUBS) else source_name(source)


def base_revision(model: ModelStatus) -> str | None:
    """The commit, where the source has commits."""
    return model.revision if model.source.startswith(HUBS) else None
