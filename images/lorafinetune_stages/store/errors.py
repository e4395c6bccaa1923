"""What a failure of a file system means to a person, as a reason of the closed list."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError

FILE_SYSTEM_REASONS: Final = {
    errno.ENOSPC: Reason.STORAGE_FULL,
    errno.EDQUOT: Reason.STORAGE_FULL,
    errno.EACCES: Reason.STORAGE_DENIED,
    errno.EPERM: Reason.STORAGE_DENIED,
    errno.EROFS: Reason.STORAGE_DENIED,
    errno.EIO: Reason.STORAGE_UNAVAILABLE,
    errno.ENOENT: Reason.STORAGE_UNAVAILABLE,  # a directory removed while it is written to
    errno.ESTALE: Reason.STORAGE_UNAVAILABLE,
    errno.ENOTCONN: Reason.STORAGE_UNAVAILABLE,
    errno.ETIMEDOUT: Reason.STORAGE_UNAVAILABLE,
    errno.ENOTDIR: Reason.CONFIG_INVALID,
    errno.EISDIR: Reason.CONFIG_INVALID,
    errno.ENAMETOOLONG: Reason.CONFIG_INVALID,
}


class DamagedError(StageError):
    """An output of the stage's own store is not what its manifest says, so that it is to be made again.

    place: of the output, like `trainings/KEY`. path: of the file in it that differs; empty for the manifest.
    """

    def __init__(self, place: str, path: str, message: str) -> None:
        super().__init__(Reason.ARTIFACT_CORRUPT, message)
        self.place = place
        self.path = path


@contextmanager
def file_system_errors(uri: str) -> Iterator[None]:
    """Turns the OSError of a store's own file into a StageError that names the object.

    It must not enclose a caller's code: a full scratch directory is no full store.
    """
    try:
        yield
    except OSError as problem:
        reason = FILE_SYSTEM_REASONS.get(problem.errno or 0)
        if reason is None:
            raise
        raise StageError(reason, f"{uri}: {problem.strerror}") from problem


def not_there(uri: str) -> StageError:
    """An object that is read because something says it exists, and does not."""
    return StageError(Reason.ARTIFACT_CORRUPT, f"{uri} does not exist")


def too_large(uri: str, limit: int) -> StageError:
    return StageError(
        Reason.ARTIFACT_CORRUPT, f"{uri} has more than the {limit} bytes that such a file may have"
    )


def no_bucket(bucket: str, uri: str, where: str) -> StageError:
    return StageError(
        Reason.CONFIG_INVALID,
        f"{uri}: the bucket {bucket} does not exist {where}",
        "Create the bucket, or correct its name in the URI or the connection that the URI is used with.",
    )
