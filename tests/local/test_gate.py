"""A local run at the gate: it fails, and once the gate is lowered it goes on, without training again."""

from pathlib import Path
from typing import Any

import pytest

from local.runs import Desk, desk

pytestmark = pytest.mark.model


def gate(made: Desk, asked: str) -> tuple[int, str]:
    """Runs to the end. asked: by how much the model must be better than its base."""
    evaluation = {"everySteps": 20, "gate": {"mustImproveBy": asked}}
    made.edit({"training": {"maxSteps": 40, "evaluation": evaluation}})
    return made.finish()


def condition(status: dict[str, Any]) -> tuple[str, str]:
    return next((c["status"], c["reason"]) for c in status["conditions"] if c["type"] == "EvalPassed")


def test_what_does_not_pass_is_exported_once_the_gate_is_lowered_and_not_trained_again(
    tmp_path: Path,
) -> None:
    made = desk(tmp_path)
    code, out = gate(made, "100")
    assert code == 64, out
    refused = made.status()
    numbers = (refused["training"]["evalLoss"], refused["training"]["baseEvalLoss"])
    assert float(numbers[0]) < float(numbers[1])
    assert f"export failed: EvalGateFailed: spec.training.evaluation.gate: evalLoss is {numbers[0]}, " in out
    assert condition(refused) == ("False", "EvalGateFailed")
    assert not list((tmp_path / "lorafinetune-store" / "runs").glob("*/exports"))

    code, out = gate(made, "0.1")
    assert code == 0, out
    passed = made.status()
    assert "train was found in the store" in out.splitlines()
    assert "export is complete" in out.splitlines()
    assert condition(passed) == ("True", "EvalPassed")
    assert passed["training"] == refused["training"]
    assert passed["artifacts"]["merged"]["bytes"]
