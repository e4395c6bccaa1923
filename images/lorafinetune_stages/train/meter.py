"""What the training costs: seconds in steps and in evaluations, and the tokens learned in them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lorafinetune.api.status import GpuSeconds


class Meter:
    """gpus: 0 costs no GPU time. before: what earlier attempts of the same training cost."""

    def __init__(self, gpus: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.before = GpuSeconds()
        self.seconds = {"training": 0.0, "evaluating": 0.0}
        self._gpus = gpus
        self._clock = clock
        self._began = clock()
        self._tokens_before: int | None = None
        self._tokens_per_second = 0

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        began = self._clock()
        try:
            yield
        finally:
            self.seconds["evaluating"] += self._clock() - began

    def step_begins(self, tokens: int) -> None:
        """tokens: all that were learned from so far, in earlier attempts too."""
        self._step_began = self._clock()
        if self._tokens_before is None:
            self._tokens_before = tokens

    def step_ends(self, tokens: int) -> None:
        self.seconds["training"] += self._clock() - self._step_began
        learned = tokens - (self._tokens_before or 0)
        self._tokens_per_second = round(learned / max(self.seconds["training"], 1e-9))

    @property
    def tokens_per_second(self) -> int:
        """Useful tokens a second of this attempt's steps."""
        return self._tokens_per_second

    def gpu_seconds(self) -> GpuSeconds:
        """GPU time of this attempt and those before."""
        held = self._clock() - self._began
        return GpuSeconds(
            held=self.before.held + round(held * self._gpus),
            training=self.before.training + round(self.seconds["training"] * self._gpus),
            evaluating=self.before.evaluating + round(self.seconds["evaluating"] * self._gpus),
        )
