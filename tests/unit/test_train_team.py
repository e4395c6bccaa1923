"""What a rank is told by its variables."""

import json
from pathlib import Path

import pytest

from lorafinetune_stages.train.seat import SEAT_VARIABLE, Seat
from lorafinetune_stages.train.team import environment

STAGE = {
    "OMP_NUM_THREADS": "9",
    "LORAFINETUNE_PROGRESS": "/p",
    "LORAFINETUNE_PROGRESS_URL": "https://operator",
    "LORAFINETUNE_TERMINATION_MESSAGE": "/dev/termination-log",
    "LORAFINETUNE_ARGUMENTS": "{}",
}


def told(rank: int, given: dict[str, str], here: int = 4) -> dict[str, str]:
    """The variables of one of four ranks, of which so many are on this node."""
    seat = Seat(rank=rank, ranks=4, inputs="/scratch/train-1", meeting="/scratch/train-1/ranks/meeting")
    return dict(environment(given, seat, Path("/scratch/train-1/ranks/message"), here))


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
    assert Seat.taken() is None
    text = told(2, STAGE)[SEAT_VARIABLE]
    monkeypatch.setenv(SEAT_VARIABLE, text)
    assert json.loads(text)["rank"] == 2
    assert Seat.taken() == Seat.model_validate_json(text)
