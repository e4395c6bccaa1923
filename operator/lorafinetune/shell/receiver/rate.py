"""How often one pod may post."""

import time
from collections.abc import Callable
from typing import Final

INTERVAL_SECONDS: Final = 1.0
BURST: Final = 3
"""Posts that may come at once: an activity's beginning, a checkpoint and the last word."""
MANY: Final = 4096


class RateLimiter:
    """One post a second from each pod in the long run, and a few at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._used: dict[str, float] = {}
        """Until when a pod has used up its turns."""

    def admits(self, uid: str) -> bool:
        """Whether it is the pod's turn; if so, the turn is used."""
        now = self._clock()
        used = max(self._used.get(uid, now), now)
        if used - now > (BURST - 1) * INTERVAL_SECONDS:
            return False
        if len(self._used) >= MANY:
            self._used = {other: until for other, until in self._used.items() if until > now}
        self._used[uid] = used + INTERVAL_SECONDS
        return True
