"""If two attempts at one training are alive at once, the newer one stops the older one.

In one cluster the API server lets nobody begin twice. But a node that is cut off trains on while another
takes over, and clusters may share a store. So every attempt takes the next number by a conditional write, and
asks before it writes whether its number is still the highest. An attempt that is frozen right after it has
asked writes where no other does: `states.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store import Store


class Fence:
    """An attempt's number, taken at `place`/attempts/NUMBER."""

    def __init__(self, store: Store, place: str) -> None:
        self._store = store
        self._place = f"{place}/attempts"
        self.number = self._take()

    def check(self) -> None:
        """Raises StageError(Superseded) where a newer attempt has begun."""
        newest = self._newest()
        if newest > self.number:
            raise StageError(
                Reason.SUPERSEDED,
                f"this is attempt {self.number} at the training, and attempt {newest} has begun elsewhere",
            )

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Checks before and after: also what fails in between may fail because a newer attempt has begun."""
        self.check()
        try:
            yield
        finally:
            self.check()

    def _take(self) -> int:
        number = self._newest() + 1
        while not self._store.create(f"{self._place}/{number}", b"begun\n"):
            number += 1
        return number

    def _newest(self) -> int:
        names = (entry.key.rpartition("/")[2] for entry in self._store.list(self._place))
        return max((int(name) for name in names if name.isascii() and name.isdecimal()), default=0)
