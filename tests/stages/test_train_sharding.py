"""Two ranks that hold a part of the base each: they learn what one rank learns that holds all of it."""

import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.contract.outcome import ExitCode
from stages.test_train_processes import Stage, is_at
from stages.test_train_ranks import EVALUATION, EXACT, alone, numbers, two_ranks
from stages.train_builders import World, world

__all__ = ["two_ranks"]

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]


def split(made: World) -> World:
    return replace(made, arguments=made.arguments.model_copy(update={"sharding": "fsdp2"}))


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"batchSize": 3}, id="packed, with a last step that has one row for two"),
        pytest.param({"packing": "none"}, id="padded"),
    ],
)
def test_two_ranks_learn_what_one_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: Mapping[str, Any]
) -> None:
    made = world(tmp_path / "one", evaluation=EVALUATION, **{**EXACT, **fields})
    together = split(made.copy(tmp_path / "two"))
    with Stage(together, tmp_path / "stage") as stage:
        assert stage.end() == ExitCode.DONE
    assert numbers(together.metrics()) == pytest.approx(numbers(alone(made, monkeypatch)), rel=1e-5)
    for side in ("base", "tuned"):
        assert together.compared()[side] == pytest.approx(made.compared()[side], rel=1e-5)
    assert together.answers() == made.answers()
    assert together.manifest().lineage["plan"]["shards"] == 2


def test_it_goes_on_from_a_checkpoint_with_the_same_adapter(tmp_path: Path) -> None:
    """With dropout, and evaluations on the way."""
    made = split(world(tmp_path / "whole", epochs="4", checkpoint={"every": 2}, evaluation=EVALUATION))
    left = made.copy(tmp_path / "left")
    with Stage(made, tmp_path / "undisturbed") as stage:
        assert stage.end() == ExitCode.DONE
        digest = stage.result().adapter.digest
    with Stage(left, tmp_path / "stopped") as stage:
        stage.wait_until(is_at(3))
        stage.process.send_signal(signal.SIGTERM)
        assert stage.end() == ExitCode.STOPPED
    with Stage(left, tmp_path / "again") as stage:
        assert stage.end() == ExitCode.DONE
        assert stage.result().resumes == 1
        assert stage.result().adapter.digest == digest
    assert left.metrics() == made.metrics()
