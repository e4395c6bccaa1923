"""The trainings whose curves are held against each other."""

import pytest

from bench.parity.cases import trainings

pytestmark = pytest.mark.model


@pytest.mark.parametrize("gpus", [0, 1])
def test_trainings_differ_in_settings_and_seed_alone(gpus: int) -> None:
    made = trainings(gpus, 20, {"learningRate": "1e-4"})
    assert {(each.case.steps, each.case.batch_size, each.case.extra["data_seed"]) for each in made} == {
        (20, 8, 1)
    }
    assert {each.case.training["learningRate"] for each in made} == {"1e-4"}
    assert len({each.case.name for each in made}) == len(made)
    assert [each.case.training["seed"] for each in made] == [each.seed for each in made]
