"""Whether a tuned model is as much better than its base as its user asks, before anything is made of it."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from lorafinetune.api.evaluation import Gate
from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import TrainingStatus
from lorafinetune.contract.outcome import StageError

FIELD: Final = "spec.training.evaluation.gate"
UNKNOWN: Final = "an older version made the training, and did not evaluate the base"
REMEDY: Final = f"Remove `{FIELD}`, or train anew with another `spec.training.seed`."


@dataclass(frozen=True)
class GateResult:
    """message: what was compared. error: why it is not passed."""

    message: str
    error: StageError | None = None


def judge(gate: Gate, training: TrainingStatus) -> GateResult:
    """training: of one that is finished. The decimals that people read are compared, not floats."""
    name, loss = "evalLoss", training.eval_loss
    if training.best_eval_loss is not None:
        name, loss = "bestEvalLoss", training.best_eval_loss
    if loss is None or training.base_eval_loss is None:
        return _refused(f"{FIELD}: {UNKNOWN}", REMEDY)
    tuned, base, wanted = map(Decimal, (loss, training.base_eval_loss, gate.must_improve_by))
    found = f"{name} is {loss}, {_place(tuned - base)} the base's {training.base_eval_loss}"
    if base - tuned >= wanted:
        return GateResult(found)
    asked = f"must be at least {gate.must_improve_by} below it" if wanted else "must not be above it"
    return _refused(f"{FIELD}: {found}, and {asked}")


def _place(above: Decimal) -> str:
    return f"{float(abs(above)):.6g} {'above' if above > 0 else 'below'}"


def _refused(message: str, hint: str = "") -> GateResult:
    return GateResult(message, StageError(Reason.EVAL_GATE_FAILED, message, hint))
