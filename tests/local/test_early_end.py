"""A local run that is stopped early and keeps its best adapter: what is said of it, and what is exported."""

from pathlib import Path

import pytest

from local.runs import desk

pytestmark = pytest.mark.model


def test_a_run_that_is_stopped_early_is_complete_with_its_best_adapter(tmp_path: Path) -> None:
    """No evaluation improves by a hundred nats, so the second one ends it."""
    made = desk(tmp_path)
    checkpoint = {"select": "best", "earlyStopping": {"patience": 1, "minImprovement": "100"}}
    evaluation = {"everySteps": 10, "gate": {"mustImproveBy": "0.1"}}
    made.edit({"training": {"maxSteps": 40, "evaluation": evaluation, "checkpoint": checkpoint}})
    code, out = made.finish()
    assert code == 0, out
    status = made.status()
    training = status["training"]
    ended = f"stopped early at step 20 of 40, and kept the adapter of step {training['bestStep']}"
    assert f"train is complete: {ended}" in out.splitlines()
    said = {condition["type"]: condition["message"] for condition in status["conditions"]}
    assert said["Complete"] == f"all stages are complete; the training {ended}"
    assert said["EvalPassed"].startswith(f"bestEvalLoss is {training['bestEvalLoss']}, ")
    assert (training["step"], training["totalSteps"], training["stoppedEarly"]) == (20, 40, True)
    assert status["artifacts"]["merged"]["bytes"]
