"""One run as it changes: a watch that is opened again whenever it breaks."""

import time
from collections.abc import Callable, Iterator
from typing import Final

from lorafinetune.api import PLURAL
from lorafinetune.cli.cluster import ApiError, Cluster, Object

PAUSES: Final = (1, 2, 5, 10, 20)
"""Seconds before the first tries to reach the API server again; the last holds for all others."""


class Deleted:
    """The run was deleted."""


Seen = Object | ApiError | Deleted
"""A state of the run, why it can't be seen right now, or its end."""


def follow(cluster: Cluster, name: str, sleep: Callable[[float], None] = time.sleep) -> Iterator[Seen]:
    """Every state of a run from now on. Raises ApiError where trying again helps nothing, and at first
    where there is no such run."""
    newest = cluster.run(name)
    yield newest
    failures = 0
    while True:
        try:
            for changed in _changes(cluster, name, newest):
                newest, failures = changed, 0
                yield newest
        except _DeletedError:
            yield Deleted()
            return
        except ApiError as problem:
            if not problem.passes and problem.status != 410:
                raise
            if problem.passes:
                yield problem
                sleep(PAUSES[min(failures, len(PAUSES) - 1)])
                failures += 1


class _DeletedError(Exception):
    """The run is not there any more."""


def _changes(cluster: Cluster, name: str, known: Object) -> Iterator[Object]:
    """What has changed since `known`, and what changes until the watch ends."""
    newest = _now(cluster, name)
    if _version(newest) != _version(known):
        yield newest
    query = {"fieldSelector": f"metadata.name={name}", "resourceVersion": _version(newest)}
    for kind, seen in cluster.watch(PLURAL, query):
        if kind == "DELETED":
            raise _DeletedError
        if kind != "BOOKMARK":
            yield seen


def _now(cluster: Cluster, name: str) -> Object:
    try:
        return cluster.run(name)
    except ApiError as problem:
        if problem.status == 404:
            raise _DeletedError from None
        raise


def _version(run: Object) -> str:
    return str(run["metadata"]["resourceVersion"])
