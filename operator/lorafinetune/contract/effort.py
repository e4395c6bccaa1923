"""How long a training takes and how much disk it needs: estimates, said before it begins."""

import math
from collections.abc import Iterator
from typing import Final

from lorafinetune.api.status import Estimate
from lorafinetune.api.training import Training
from lorafinetune.contract.memory import MemorySettings

GPU_RATE: Final = 400e12
"""Floating-point operations that an H100 does in a second of training: measured, as the others, in bf16. An
H200 has little more."""
FP8_RATE: Final = 580e12
UNCOMPILED_RATE: Final = 290e12
NF4_RATE: Final = 290e12
"""Weights are put together from 4 bits each time that they are multiplied with."""
PADDED_RATE: Final = 109e12
"""Of the tokens that count, not of the padding."""
CPU_RATE: Final = 130e9
"""Of two cores."""
PASS: Final = 4
"""Operations per token and weight: forward, and back to the input; frozen weights get no gradient."""
RECOMPUTED: Final = 6
EVALUATED: Final = 2
STATE_BYTES: Final = 12
"""Of one trained parameter in a checkpoint: itself and Adam's two moments, in fp32."""
FULL: Final = 0.98
"""Share of the room in packs of a fixed size that is filled where the lengths of the rows allow it."""
MUCH_EVALUATION: Final = 0.2
"""Share of the time above which evaluation is worth a warning."""
TOKEN_BYTES: Final = 9
"""Of one token of a prepared row: itself, its label, and whether it is there."""
MOST_STEPS: Final = 10**9
STATES: Final = 4
"""On the disk at once: the checkpoint that is gone on from, one that is sent, the next that is written, and
adapters without Adam's moments: the result, the best so far and a better one."""


def steps(training: Training, epoch: int) -> int:
    """Optimizer steps. epoch: those of one pass over all rows."""
    if training.max_steps:
        return training.max_steps
    return min(MOST_STEPS, math.ceil(epoch * float(training.epochs or "0")))


def leaves_room(tokens: int, packs: int, size: int) -> bool:
    """Whether so many tokens do not fill so many packs of a size, and fewer packs might do."""
    return tokens < FULL * packs * size and tokens <= (packs - 1) * size


def evaluations(training: Training, steps: int) -> int:
    """How often held-out rows are evaluated: on the way, at the end, and by the base, if that is not found in
    the store. Of pairs the base's loss is known. A result of 8 or 4 bits is evaluated on the base it is for,
    too."""
    if training.evaluation is None:
        return 0
    on_the_way = math.ceil(steps / training.evaluation.every_steps)
    reduced = training.precision == "fp8" or training.quantization != "none"
    return on_the_way + (training.objective != "dpo") + reduced


def rate(training: Training, settings: MemorySettings, gpus: int) -> float:
    """Floating-point operations in a second, of H100s, or of two cores without a GPU."""
    return gpus * _card_rate(training, settings) if gpus else CPU_RATE


def _card_rate(training: Training, settings: MemorySettings) -> float:
    if not settings.packed:
        return PADDED_RATE
    if settings.weights == "nf4":
        return NF4_RATE
    if not settings.compiled:
        return UNCOMPILED_RATE
    return FP8_RATE if training.precision == "fp8" else GPU_RATE


def seconds(
    parameters: int, trained: int, evaluated: int, recomputed: bool, rate: float, compared: bool = False
) -> tuple[float, float]:
    """Of the optimizer steps, and of the evaluations.

    parameters: weights that every token is multiplied with. trained, evaluated: tokens in all. rate:
    operations in a second. compared: whether the base reads them, too.
    """
    base = EVALUATED if compared else 0
    each = (RECOMPUTED if recomputed else PASS) + base
    return parameters * trained * each / rate, parameters * evaluated * (EVALUATED + base) / rate


def disk(model: int, tokens: int, adapter: int) -> int:
    """Bytes of scratch. model: bytes of the base. tokens: of all rows, held-out ones too. adapter: trained
    parameters."""
    return model + TOKEN_BYTES * tokens + STATES * STATE_BYTES * adapter


def warnings(estimate: Estimate) -> Iterator[str]:
    """What a person may want to change before it costs."""
    if estimate.evaluating_seconds > MUCH_EVALUATION * estimate.seconds:
        share = round(100 * estimate.evaluating_seconds / estimate.seconds)
        yield f"evaluation takes about {share}% of the time: see training.evaluation.everySteps and fraction"
