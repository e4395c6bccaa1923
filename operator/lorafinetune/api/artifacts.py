"""What a run leaves in the store and beside it, as its status names it."""

from typing import Annotated, Final

from pydantic import Field

from lorafinetune.api.types import Count, Digest, Line, Model, Subdomain, Text

MOST_OUTPUTS: Final = 16

Uri = Annotated[str, Field(max_length=1024)]


class Artifact(Model):
    """One complete output in the store."""

    uri: Uri
    """Directory in the store; its `manifest.json` lists every file with size and sha256."""
    digest: Digest
    """Digest over the names, sizes and sha256 of all files."""
    bytes: Count
    """Size of all files."""


class Published(Model):
    """One place where the merged model was published."""

    uri: Uri
    """The target as written in the spec."""
    revision: Line
    """The hub's commit, or the digest of all files where a target has no commits."""


class Artifacts(Model):
    """The outputs."""

    adapter: Artifact | None = None
    """The LoRA adapter in PEFT's layout, with the loss curve and metrics."""
    merged: Artifact | None = None
    """The merged model."""
    published: Annotated[tuple[Published, ...], Field(max_length=8)] = ()
    """Where the merged model was published."""
    report: Uri | None = None
    """A page about the run, as it was when its export ended."""

    @property
    def uris(self) -> tuple[str, ...]:
        """Where the adapter and the merged model are."""
        return tuple(made.uri for made in (self.adapter, self.merged) if made)


class ConfigMapStatus(Model):
    """What became of `export.configMap`."""

    name: Subdomain | None = None
    """The ConfigMap that is kept."""
    message: Text | None = None
    """Why there is none of the name that the spec asks for."""
    outputs: Annotated[tuple[Uri, ...], Field(max_length=MOST_OUTPUTS)] = ()
    """The outputs that the ConfigMap names, and those that it is about to name. They stay while the run is
    edited or fails, and `lorafinetune gc` keeps them."""
