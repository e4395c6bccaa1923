"""The operator and the stages as their images start them, but impatient: what takes minutes takes seconds.

Nothing else differs, so hundreds of lives fit into minutes.
"""

import warnings
from functools import partial
from typing import Any, Final

import aiohttp

from builders import NOW, resource
from faults import s3proxy
from faults.proxy import PATIENCE
from lorafinetune.core.jobs import Settings
from lorafinetune.core.observed import Observed
from lorafinetune.core.plan import Input, plan
from lorafinetune.shell import audit, client, connection, queue, watcher
from lorafinetune.shell.__main__ import main

WATCH_SECONDS: Final = 8
QUICK: Final[tuple[tuple[Any, str, object], ...]] = (
    (audit, "EVERY", 4.0),
    (audit, "SOON", 0.2),
    (client, "WATCH_SECONDS", WATCH_SECONDS),
    (watcher, "WATCH_SECONDS", WATCH_SECONDS),
    (connection, "REQUEST_TIMEOUT", aiohttp.ClientTimeout(total=PATIENCE, sock_connect=PATIENCE)),
    (queue, "LONGEST_RETRY", 2.0),
)
"""Module, name of a constant, and its value."""

plan(Input(resource(), Observed(), Settings(), NOW))
"""What is compiled at the first plan is compiled before the forks."""


def operator() -> int:
    warnings.simplefilter("error")
    for module, name, value in QUICK:
        assert hasattr(module, name)
        setattr(module, name, value)
    return main()


def stage(name: str) -> int:
    """A stage as its image starts it; a server that does not answer is given up after seconds."""
    from lorafinetune_stages import __main__ as program
    from lorafinetune_stages.store import s3
    from lorafinetune_stages.store.s3_access import Bounds

    bounds = Bounds(connect_seconds=s3proxy.PATIENCE, request_seconds=s3proxy.PATIENCE)
    s3.S3Store = partial(s3.S3Store, bounds=bounds)  # type: ignore[misc, assignment]
    return program.main([name])
