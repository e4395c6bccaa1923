"""What disturbances have in common: how long a while is, who may strike when, and that one can miss."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Final

from chaos.hands import Hands
from cluster.process import CommandError

A_WHILE: Final = 8.0
ONE_AT_A_TIME: Final = threading.Lock()
"""Of what strikes all runs: two together could leave what neither can mend."""
Disturbance = Callable[[Hands], None]


class Missed(Exception):  # noqa: N818 - no error: the run had nothing that could be struck
    """Nothing was there to be disturbed."""


def for_a_while(state: Callable[[Hands], AbstractContextManager[None]]) -> Disturbance:
    """Have all runs in a state for a while, and no other at the same time."""

    def disturb(hands: Hands) -> None:
        with ONE_AT_A_TIME, state(hands):
            time.sleep(A_WHILE)

    return disturb


@contextmanager
def where_it_was() -> Iterator[None]:
    """What is gone when the block comes to it was no target."""
    try:
        yield
    except CommandError as error:
        if "NotFound" not in str(error):
            raise
        raise Missed from error


def wait_at_most(seconds: float, holds: Callable[[], bool]) -> bool:
    """Whether it came to hold. What can't be asked at the moment does not hold."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError):
            if holds():
                return True
        time.sleep(0.2)
    return False
