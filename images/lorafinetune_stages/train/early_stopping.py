"""How a training ends, and whether before its last step. Only the losses in its log decide that, so one that
was interrupted ends at the same step as one that was not.
"""

import math
from collections.abc import Iterable

from lorafinetune.api.training import EarlyStopping


class Ended(Exception):  # noqa: N818 - all is well
    """The training has ended, and its adapter lies where the trainer puts its own.

    Raised, since the trainer asks whether to end after a step alone, and an evaluation that was made up for
    after a resume may end the training before there is another one.
    """


def is_exhausted(rule: EarlyStopping, losses: Iterable[float]) -> bool:
    """Whether the last ones of these evaluations were too many without an improvement."""
    improved, waited = math.inf, 0
    for loss in losses:
        is_better = loss < improved - float(rule.min_improvement)
        improved, waited = (loss, 0) if is_better else (improved, waited + 1)
    return waited >= rule.patience
