"""What a request to leave (SIGTERM, SIGINT) does at each point of a training.

Before the first step there is nothing to save, and the stage leaves at once. From then on the request
is only noted: the step is ended, a checkpoint saved. What is evaluated after the last step ends too, and is
made up for from its checkpoint. From there on the result is near, so the stage finishes.
"""

import signal
from types import FrameType, TracebackType
from typing import Any, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """Takes over the signals while it is entered. To be entered on the main thread."""

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignal":
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def defer(self) -> None:
        """From here on a request waits for the end of the step. Raises where there was one before."""
        self._deferred = True
        self.check_before_first_step()

    def check_before_first_step(self) -> None:
        """Raises StageError(Preempted) after a request: a library may have swallowed the first raise."""
        if self.requested:
            raise StageError(Reason.PREEMPTED, "the training was asked to stop before its first step")

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        self.requested = True
        if not self._deferred:
            self.check_before_first_step()
