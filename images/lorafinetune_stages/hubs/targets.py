"""Where a merged model is to be published, and whether it can be: checked before a GPU is asked for."""

from collections.abc import Iterator, Sequence

from lorafinetune.api.exports import Publish
from lorafinetune.contract.arguments import StageArguments
from lorafinetune_stages.hubs import Pause
from lorafinetune_stages.hubs.factory import open_target
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.store.factory import open_store
from lorafinetune_stages.store.manifest import MANIFEST


def origins(arguments: StageArguments, publish: Sequence[Publish]) -> Iterator[tuple[Publish, Origin]]:
    """The targets in their order, and how they are named in messages."""
    for index, wanted in enumerate(publish):
        field = f"spec.export.publish[{index}]"
        connection = arguments.connection(wanted.connection)
        yield wanted, Origin(field, "models", wanted.to, connection=connection, name="to")


def check_targets(arguments: StageArguments, publish: Sequence[Publish], pause: Pause) -> None:
    """Raises StageError for a target that can't be written to, as far as reading tells."""
    for _, origin in origins(arguments, publish):
        if origin.scheme == "s3":
            open_store(origin.source, origin.connection).find(MANIFEST)
            continue
        with open_target(origin, pause) as target:
            target.check()
