"""The gate: what passes it, what a run says of it, and what an edit of it runs again."""

from typing import Any

import pytest

from lorafinetune.api.evaluation import Gate
from lorafinetune.api.status import Condition, TrainingStatus
from lorafinetune.contract.arguments import STAGES
from lorafinetune.core.gate import REMEDY, judge
from lorafinetune.core.steps import stage_status
from unit.test_plan import Step, conditions, done, fresh, run_until
from unit.world import World

VERDICTS: dict[str, tuple[str | None, str | None, str, bool, str]] = {
    "a loss that is lower by more than is asked for passes": (
        "2.0",
        "2.5",
        "0.02",
        True,
        "evalLoss is 2.0, 0.5 below the base's 2.5",
    ),
    "one that is lower by just that passes, in decimals": (
        "1.1",
        "1.5",
        "0.4",
        True,
        "evalLoss is 1.1, 0.4 below the base's 1.5",
    ),
    "one that is lower by less does not": (
        "2.49",
        "2.5",
        "2e-2",
        False,
        "evalLoss is 2.49, 0.01 below the base's 2.5, and must be at least 2e-2 below it",
    ),
    "one that is higher does not": (
        "2.6",
        "2.5",
        "0.02",
        False,
        "evalLoss is 2.6, 0.1 above the base's 2.5, and must be at least 0.02 below it",
    ),
    "nothing asked for is passed by what is no worse": (
        "2.5",
        "2.5",
        "0",
        True,
        "evalLoss is 2.5, 0 below the base's 2.5",
    ),
    "and not by what is worse": (
        "2.51",
        "2.5",
        "0.0",
        False,
        "evalLoss is 2.51, 0.01 above the base's 2.5, and must not be above it",
    ),
    "a large loss and a small one are compared like others": (
        "1e-07",
        "1.5e9",
        "1e-9",
        True,
        "evalLoss is 1e-07, 1.5e+09 below the base's 1.5e9",
    ),
    "what was trained before bases were evaluated does not pass": (
        "2.0",
        None,
        "0",
        False,
        "an older version made the training, and did not evaluate the base",
    ),
}


def test_the_best_step_s_loss_is_compared_where_its_adapter_would_be_exported() -> None:
    training = TrainingStatus(eval_loss="2.6", base_eval_loss="2.5", best_step=20, best_eval_loss="2.0")
    verdict = judge(Gate(must_improve_by="0.1"), training)
    assert (verdict.error, verdict.message) == (None, "bestEvalLoss is 2.0, 0.5 below the base's 2.5")


@pytest.mark.parametrize("sentence", VERDICTS)
def test_verdict(sentence: str) -> None:
    tuned, base, asked, passed, message = VERDICTS[sentence]
    verdict = judge(Gate(must_improve_by=asked), TrainingStatus(eval_loss=tuned, base_eval_loss=base))
    assert (verdict.error is None) == passed
    assert verdict.message == (message if passed else f"spec.training.evaluation.gate: {message}")
    if verdict.error:
        usual = verdict.error.reason.facts.hint
        assert (verdict.error.reason, verdict.error.message) == ("EvalGateFailed", verdict.message)
        assert verdict.error.hint == (usual if base else REMEDY)


def gate(asked: str | None) -> Step:
    """A person sets the gate, or removes it. The training improves by 0.4."""
    wanted = {"mustImproveBy": asked} if asked else None
    return lambda world: world.edit({"training": {"evaluation": {"gate": wanted}}})


PASSED = {"Ready", "Complete", "Validated", "EvalPassed"}
REFUSED = {"Stalled", "Failed", "Validated"}
TRAINED = ["download", "prepare", "train"]
SITUATIONS: dict[str, tuple[list[Step], set[str], list[str]]] = {
    "without a gate nothing is said of it": ([done], PASSED - {"EvalPassed"}, list(STAGES)),
    "what passes is exported": ([gate("0.4"), done], PASSED, list(STAGES)),
    "what does not pass is not": ([gate("0.5"), done], REFUSED, TRAINED),
    "after the gate is lowered it is exported, and nothing is trained again": (
        [gate("0.5"), done, gate("0.4"), done],
        PASSED,
        list(STAGES),
    ),
    "after the gate is removed it is, too": (
        [gate("0.5"), done, gate(None), done],
        PASSED - {"EvalPassed"},
        list(STAGES),
    ),
    "another training has another chance": (
        [gate("0.5"), done, lambda w: w.edit({"training": {"learningRate": "2e-4"}}), done],
        REFUSED,
        [*TRAINED, "prepare", "train"],
    ),
    "a training that is found in the store is judged as well": (
        [gate("0.5"), done, fresh, done],
        REFUSED,
        [*TRAINED, "download", "prepare"],
    ),
    "a gate that is set while the model is exported ends that": (
        [run_until("export"), gate("0.5"), done],
        REFUSED,
        list(STAGES),
    ),
    "what it ended is made once it is lowered": (
        [run_until("export"), gate("0.5"), done, gate("0.4"), done],
        PASSED,
        [*STAGES, "export"],
    ),
    "a gate that is set after the end is judged, and runs nothing": (
        [done, gate("0.5"), done, gate("0.4"), done],
        PASSED,
        list(STAGES),
    ),
    "a suspended run that does not pass has failed": (
        [gate("0.5"), run_until("train"), World.succeed, lambda w: w.edit({"suspend": True}), World.settle],
        REFUSED,
        TRAINED,
    ),
}


def begun() -> World:
    return World({"training": {"evaluation": {"fraction": "0.1"}}})


@pytest.mark.parametrize("sentence", SITUATIONS)
def test_situation(sentence: str) -> None:
    steps, true_conditions, stages_run = SITUATIONS[sentence]
    world = begun()
    for step in steps:
        step(world)
    assert (conditions(world.status), world.stages_run()) == (true_conditions, stages_run)
    assert world.active() is None


def told(world: World) -> Condition | None:
    return next((each for each in world.status.conditions if each.type == "EvalPassed"), None)


def test_the_condition_is_there_once_the_training_is() -> None:
    world = begun()
    gate("0.5")(world)
    run_until("train")(world)
    assert told(world) is None
    world.run_to_end()
    refused = told(world)
    assert refused
    assert (refused.status, refused.reason) == ("False", "EvalGateFailed")
    gate("0.4")(world)
    world.run_to_end()
    passed = told(world)
    assert passed
    assert (passed.status, passed.reason) == ("True", "EvalPassed")
    assert passed.message == "evalLoss is 1.1, 0.4 below the base's 1.5"


def test_a_refusal_says_why_once_and_what_to_do() -> None:
    world = begun()
    gate("0.5")(world)
    status = world.run_to_end()
    for _ in range(3):
        world.reconcile()
    message = (
        "spec.training.evaluation.gate: evalLoss is 1.1, 0.4 below the base's 1.5, "
        "and must be at least 0.5 below it"
    )
    assert status.failure
    assert (status.failure.stage, status.failure.reason) == ("export", "EvalGateFailed")
    assert status.failure.message == message
    assert "mustImproveBy" in status.failure.hint
    assert [e.message for e in world.events if e.reason == "EvalGateFailed"] == [message]
    assert stage_status(status, "export").state == "Pending"
    assert status.artifacts
    assert status.artifacts.adapter
    assert not status.artifacts.merged


def test_what_was_exported_before_the_gate_stays() -> None:
    world = begun()
    world.run_to_end()
    gate("0.5")(world)
    status = world.run_to_end()
    assert status.stage == "Failed"
    assert status.artifacts
    assert status.artifacts.merged
    assert stage_status(status, "export").state == "Complete"


def test_another_export_than_the_one_before_the_gate_is_not_there() -> None:
    world = begun()
    world.run_to_end()
    gate("0.5")(world)
    world.edit({"export": {"merged": {"maxShardSize": "1GB"}}})
    status = world.run_to_end()
    assert status.artifacts
    assert (status.artifacts.merged, stage_status(status, "export").state) == (None, "Pending")


@pytest.mark.parametrize("queue", [{}, {"queueName": "gpus"}], ids=["runs", "is queued"])
def test_an_edit_of_the_gate_is_none_of_a_training_that(queue: dict[str, Any]) -> None:
    world = begun()
    world.edit({"scheduling": queue})
    run_until("train")(world)
    before = (world.status.conditions[0].reason, dict(world.jobs), len(world.created))
    gate("0.5")(world)
    world.reconcile()
    assert (world.status.conditions[0].reason, dict(world.jobs), len(world.created)) == before
