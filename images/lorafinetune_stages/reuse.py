"""What is found in the store and passed on without being made: its bytes are read first, for nobody may
compare them after that."""

from collections.abc import Callable

from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store.manifest import Manifest, ManifestFile, find_output
from lorafinetune_stages.store.transfer import check_tree


def find_whole(
    context: Context, place: str, what: str, is_read: Callable[[ManifestFile], bool] = lambda _: True
) -> Manifest | None:
    """As find_output, with every byte compared. Raises DamagedError, as whoever reads an output does.

    what: of which files these are, for the progress. is_read: whether a file is; one need not be that is
    compared later, where it is used.
    """
    manifest = find_output(context.store, place)
    if manifest:
        read = manifest.model_copy(update={"files": tuple(filter(is_read, manifest.files))})
        context.progress.begin(f"checking {what}", read.bytes, "bytes")
        check_tree(context.store, place, read, context.progress.advance)
    return manifest
