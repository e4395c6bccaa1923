"""When a training ends before its last step."""

import pytest

from lorafinetune.api.training import EarlyStopping
from lorafinetune_stages.train.early_stopping import is_exhausted


@pytest.mark.parametrize(
    ("losses", "patience", "least", "ends"),
    [
        pytest.param([], 1, "0", False, id="nothing was evaluated"),
        pytest.param([9.0], 1, "0", False, id="the first evaluation is an improvement"),
        pytest.param([3.0, 2.0, 1.0], 1, "0", False, id="every evaluation is lower"),
        pytest.param([2.0, 3.0], 1, "0", True, id="one is higher, and none is waited for"),
        pytest.param([2.0, 2.0], 1, "0", True, id="one is no lower"),
        pytest.param([2.0, 3.0], 2, "0", False, id="one is higher, and another is waited for"),
        pytest.param(
            [2.0, 3.0, 2.5], 2, "0", True, id="lower than the one before is not lower than the lowest"
        ),
        pytest.param([2.0, 3.0, 1.9, 2.0], 2, "0", False, id="an improvement begins the count anew"),
        pytest.param([2.0, 1.5], 1, "0.5", True, id="by just the least improvement is not by more"),
        pytest.param([2.0, 1.75, 1.25], 2, "0.5", False, id="small steps add up to an improvement"),
        pytest.param([2.0, 1.75, 1.5], 2, "0.5", True, id="or they do not"),
    ],
)
def test_patience(losses: list[float], patience: int, least: str, ends: bool) -> None:
    assert is_exhausted(EarlyStopping(patience=patience, min_improvement=least), losses) == ends
