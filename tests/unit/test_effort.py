"""Steps, time and disk of a training, before it begins."""

from dataclasses import replace
from typing import Any

import pytest

from lorafinetune.api.evaluation import Evaluation
from lorafinetune.api.status import Estimate
from lorafinetune.api.training import Training
from lorafinetune.contract import effort
from lorafinetune.contract.memory import MemorySettings


@pytest.mark.parametrize(
    ("training", "epoch", "expected"),
    [
        pytest.param({"epochs": "3"}, 10, 30, id="whole epochs"),
        pytest.param({"epochs": "0.5"}, 9, 5, id="half an epoch"),
        pytest.param({"max_steps": 7}, 10, 7, id="steps that are given"),
        pytest.param({"epochs": "1000000"}, 10**9, 10**9, id="more than can be counted"),
    ],
)
def test_steps(training: dict[str, Any], epoch: int, expected: int) -> None:
    assert effort.steps(Training(**training), epoch) == expected


def test_evaluations() -> None:
    evaluated = Training(epochs="1", evaluation=Evaluation(fraction="0.1", every_steps=10))
    assert effort.evaluations(evaluated, 25) == 3 + 1, "the base too"
    assert effort.evaluations(evaluated.model_copy(update={"objective": "dpo"}), 25) == 3
    for reduced in ({"precision": "fp8"}, {"quantization": "nf4"}):
        assert effort.evaluations(evaluated.model_copy(update=reduced), 25) == 3 + 1 + 1, (
            "what is shipped too"
        )
    assert effort.evaluations(Training(epochs="1"), 25) == 0


BEST = MemorySettings(packed=True, compiled=True)


def test_a_nine_billion_model_learns_about_12_000_tokens_a_second_on_an_h100() -> None:
    rate = effort.rate(Training(epochs="1"), BEST, gpus=1)
    training, evaluating = effort.seconds(8_600_000_000, 12_000, 0, recomputed=False, rate=rate)
    assert 0.9 < training < 1.1
    assert evaluating == 0


def test_a_small_model_takes_about_a_second_for_256_tokens_on_two_cores() -> None:
    rate = effort.rate(Training(epochs="1"), BEST, gpus=0)
    training, _ = effort.seconds(135_000_000, 256, 0, recomputed=False, rate=rate)
    assert 0.9 < training < 1.1


def test_what_is_quicker_is_estimated_to_be() -> None:
    kinds: list[tuple[dict[str, Any], MemorySettings]] = [
        ({}, replace(BEST, packed=False)),
        ({"quantization": "nf4"}, replace(BEST, weights="nf4", compiled=False)),
        ({}, replace(BEST, compiled=False)),
        ({}, BEST),
        ({"precision": "fp8"}, BEST),
    ]
    rates = [effort.rate(Training(epochs="1", **given), settings, 1) for given, settings in kinds]
    assert rates == sorted(rates)
    assert effort.rate(Training(epochs="1"), BEST, 2) == 2 * effort.rate(Training(epochs="1"), BEST, 1)


def test_computing_twice_takes_longer() -> None:
    once, twice = (effort.seconds(10**9, 10**6, 0, again, 1e12)[0] for again in (False, True))
    assert twice == 1.5 * once


def test_the_base_reads_pairs_too() -> None:
    alone = effort.seconds(10**9, 10**6, 10**6, recomputed=False, rate=1e12)
    compared = effort.seconds(10**9, 10**6, 10**6, recomputed=False, rate=1e12, compared=True)
    assert compared == (1.5 * alone[0], 2 * alone[1])


def test_the_disk_holds_the_base_the_rows_and_the_checkpoints() -> None:
    assert effort.disk(1000, 10, 5) == 1000 + 90 + 240


def test_much_evaluation_is_a_warning() -> None:
    much, little = (Estimate(steps=1, seconds=100, evaluating_seconds=s, disk=1) for s in (25, 20))
    assert list(effort.warnings(much)) == [
        "evaluation takes about 25% of the time: see training.evaluation.everySteps and fraction"
    ]
    assert list(effort.warnings(little)) == []
