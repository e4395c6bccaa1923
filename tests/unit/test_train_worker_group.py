"""What a rank is told by its variables."""

import json
from pathlib import Path

import pytest

from lorafinetune_stages.train.rank_spec import RANK_VARIABLE, RankSpec
from lorafinetune_stages.train.worker_group import environment

STAGE = {
    "OMP_NUM_THREADS": "9",
    "LORAFINETUNE_PROGRESS": "/p",
    "LORAFINETUNE_PROGRESS_URL": "https://operator",
    "LORAFINETUNE_TERMINATION_MESSAGE": "/dev/termination-log",
    "LORAFINETUNE_ARGUMENTS": "{}",
}


def told(rank: int, given: dict[str, str], here: int = 4) -> dict[str, str]:
    """The variables of one of four ranks, of which so many are on this node."""
    spec = RankSpec(
        rank=rank, world_size=4, inputs="/scratch/train-1", rendezvous="/scratch/train-1/ranks/rendezvous"
    )
    return dict(environment(given, spec, Path("/scratch/train-1/ranks/message"), here))


@pytest.mark.parametrize(
    ("rank", "name", "expected"),
    [
        pytest.param(0, "LORAFINETUNE_PROGRESS", "/p", id="the first reports progress"),
        pytest.param(1, "LORAFINETUNE_PROGRESS", None, id="another writes none"),
        pytest.param(1, "LORAFINETUNE_PROGRESS_URL", None, id="and posts none"),
        pytest.param(3, "OMP_NUM_THREADS", "2", id="processors are shared"),
        pytest.param(1, "LORAFINETUNE_ARGUMENTS", "{}", id="all have the stage's arguments"),
        pytest.param(
            0,
            "LORAFINETUNE_TERMINATION_MESSAGE",
            "/scratch/train-1/ranks/message",
            id="the stage's own message is left to the stage",
        ),
    ],
)
def test_a_variable_of_a_rank(rank: int, name: str, expected: str | None) -> None:
    assert told(rank, STAGE).get(name) == expected


def test_every_rank_has_a_thread() -> None:
    assert told(0, STAGE | {"OMP_NUM_THREADS": "2"})["OMP_NUM_THREADS"] == "1"


def test_ranks_of_other_nodes_have_processors_of_their_own() -> None:
    assert told(3, STAGE, here=2)["OMP_NUM_THREADS"] == "4"


def test_a_seat_is_taken_as_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RankSpec.from_environment() is None
    text = told(2, STAGE)[RANK_VARIABLE]
    monkeypatch.setenv(RANK_VARIABLE, text)
    assert json.loads(text)["rank"] == 2
    assert RankSpec.from_environment() == RankSpec.model_validate_json(text)
