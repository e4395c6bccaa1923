"""Which source or target an origin means. The clients of the hubs are imported only where one is used."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.https import told
from lorafinetune_stages.hubs import Pause, Source, Target
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.store.naming import key_fault

if TYPE_CHECKING:
    from lorafinetune_stages.hubs.https import HttpsSource
    from lorafinetune_stages.hubs.huggingface import HuggingFaceSource
    from lorafinetune_stages.hubs.modelscope import ModelScopeSource


@contextmanager
def open_source(origin: Origin, wanted: Callable[[str], bool], pause: Pause) -> Iterator[Source]:
    """The source of an origin; nothing is read yet. wanted: whether a file of that path can be used.

    Raises StageError(ConfigInvalid) for a source of another kind, StageError(CredentialsInvalid) where
    the connection's Secret lacks a key.
    """
    match origin.scheme:
        case "file":
            from lorafinetune_stages.hubs.directory import DirectorySource

            yield DirectorySource(origin, wanted)
        case "s3":
            from lorafinetune_stages.hubs.s3 import S3Source

            yield S3Source(origin, wanted)
        case _:
            with closing(_http_source(origin, pause)) as source:
                yield source


def _http_source(origin: Origin, pause: Pause) -> "HuggingFaceSource | ModelScopeSource | HttpsSource":
    """One with connections, which are to be closed."""
    match origin.scheme:
        case "hf":
            from lorafinetune_stages.hubs.huggingface import HuggingFaceSource

            return HuggingFaceSource(_repository(origin), pause)
        case "modelscope":
            from lorafinetune_stages.hubs.modelscope import ModelScopeSource

            return ModelScopeSource(_repository(origin), pause)
        case "https":
            from lorafinetune_stages.hubs.https import HttpsSource

            return HttpsSource(origin, told(os.environ), pause)
        case _:
            raise origin.error(
                Reason.CONFIG_INVALID, "is none of hf://, modelscope://, s3://, https:// and file://"
            )


@contextmanager
def open_target(origin: Origin, pause: Pause) -> Iterator[Target]:
    """The repository of an origin, to be written to; nothing is read or written yet.

    Raises StageError(ConfigInvalid) for a target of another kind, StageError(CredentialsInvalid) where
    there is no token.
    """
    match origin.scheme:
        case "hf":
            from lorafinetune_stages.hubs.huggingface_target import HuggingFaceTarget

            with closing(HuggingFaceTarget(_repository(origin), pause)) as hub:
                yield hub
        case "modelscope":
            from lorafinetune_stages.hubs.modelscope_target import ModelScopeTarget

            with closing(ModelScopeTarget(_repository(origin), pause)) as modelscope:
                yield modelscope
        case _:
            raise origin.error(Reason.CONFIG_INVALID, "is none of hf://, modelscope:// and s3://")


def _repository(origin: Origin) -> Origin:
    """The origin itself, where it names a repository by owner and name."""
    if origin.repository.count("/") != 1 or key_fault(origin.repository):
        raise origin.error(Reason.CONFIG_INVALID, "does not name a repository as OWNER/NAME")
    return origin
