"""Whether the training was worth it: what the losses on the held-out rows say, and what they don't."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from lorafinetune.report.interval import Interval, interval
from lorafinetune.report.sources import Logged, Sources

FEWEST_ROWS: Final = 50
"""On fewer held-out rows the loss says little: chance moves it more than a training does."""
UNTRAINED_PAIR_LOSS: Final = math.log(2)
"""Loss of the base on preferences, which it is measured against."""

Word = Literal[
    "unfinished",
    "noEvaluation",
    "fewRows",
    "once",
    "chance",
    "uncompared",
    "better",
    "notBetter",
    "fell",
    "notFallen",
]
KNOWN: Final[frozenset[Word]] = frozenset(
    {"chance", "uncompared", "better", "notBetter", "fell", "notFallen"}
)
"""Words by which something is said of the result."""


@dataclass(frozen=True)
class EvaluationLoss:
    """The loss on the held-out rows after so many steps; after none it is the base's."""

    step: int
    loss: float
    accuracy: float | None = None


@dataclass(frozen=True)
class Verdict:
    """word: what is said. base: None where it was not evaluated. first, best, final: None without an
    evaluation. result: of what is exported. rows: held out; leaked: those of them that are trained on too.
    interval: None where single rows are not known."""

    word: Word
    rows: int
    leaked: int
    base: float | None = None
    first: EvaluationLoss | None = None
    best: EvaluationLoss | None = None
    final: EvaluationLoss | None = None
    result: EvaluationLoss | None = None
    interval: Interval | None = None

    @property
    def is_apart(self) -> bool:
        """Whether the result was measured in another way than on the way to it."""
        return self.result not in (self.best, self.final)

    @property
    def risen(self) -> float:
        """By how much the last loss is above the best: what over-fitting costs."""
        return self.final.loss - self.best.loss if self.final and self.best else 0.0

    @property
    def change(self) -> float:
        """How far the result's loss is from that of the base, by the rows where they are known, or the last
        from the first where the base's is not."""
        if self.interval and self.base is not None:
            return abs(self.interval.change)
        after, before = self.result, self.base
        if before is None:
            after, before = self.final, self.first.loss if self.first else None
        return abs(after.loss - before) if after and before is not None else 0.0

    @property
    def clean(self) -> int:
        """Rows that prove something."""
        return max(0, self.rows - self.leaked)

    @property
    def is_known(self) -> bool:
        """Whether something is said of the result."""
        return self.word in KNOWN


def verdict(sources: Sources) -> Verdict:
    """What is said of a run."""
    run, data, dataset = sources.run, sources.data, sources.run.status.dataset
    rows, leaked = (dataset.eval_rows, dataset.overlap) if dataset else (0, 0)
    if data:
        rows, leaked = data.eval_rows, data.overlap.rows
    chance = interval(sources.compared) if sources.compared else None
    return judge(sources.log, sources.is_trained, run.objective, rows, leaked, run.takes_best, chance)


def judge(
    log: Sequence[Logged],
    is_trained: bool,
    objective: str,
    rows: int,
    leaked: int,
    takes_best: bool,
    interval: Interval | None = None,
) -> Verdict:
    """rows: that are held out. leaked: those of them that are trained on too, which prove nothing.
    takes_best: whether the result is of the best evaluation, and not of the last one. interval: of what it
    differs by from the base."""
    measured = list(_measured(log, exported=False))
    base = next((each.loss for each in measured if each.step == 0), None)
    if objective == "dpo" and base is None:
        base = UNTRAINED_PAIR_LOSS
    tuned = [each for each in measured if each.step > 0]
    if not is_trained or not tuned:
        return Verdict("noEvaluation" if is_trained else "unfinished", rows, leaked, base)
    best = min(tuned, key=lambda each: each.loss)
    result = next(_measured(log, exported=True), best if takes_best else tuned[-1])
    word = _word(base, tuned, interval)
    found = Verdict(word, rows, leaked, base, tuned[0], best, tuned[-1], result, interval)
    return found if found.clean >= FEWEST_ROWS else replace(found, word="fewRows")


def _measured(log: Sequence[Logged], exported: bool) -> Iterator[EvaluationLoss]:
    for row in log:
        if row.eval_loss is not None and row.exported is exported:
            yield EvaluationLoss(row.step, row.eval_loss, row.accuracy)


def _word(base: float | None, tuned: Sequence[EvaluationLoss], interval: Interval | None) -> Word:
    if base is not None:
        return _against_base(interval)
    if len(tuned) == 1:
        return "once"
    return "fell" if tuned[-1].loss < tuned[0].loss else "notFallen"


def _against_base(interval: Interval | None) -> Word:
    """Better or not is said only where it is known that chance does not go so far. The rows decide, and not
    the log: its base may be one that another machine has measured."""
    if interval is None:
        return "uncompared"
    if interval.spans_zero:
        return "chance"
    return "better" if interval.high < 0 else "notBetter"
