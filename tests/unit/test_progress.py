"""The progress of a stage, as whoever runs it sees it."""

from pathlib import Path

import pytest

from lorafinetune.contract.outcome import Progress
from lorafinetune_stages.progress import Reporter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def reporter(path: Path | None) -> tuple[Reporter, Clock]:
    clock = Clock()
    return Reporter("train", path, clock), clock


def read(path: Path) -> Progress:
    return Progress.model_validate_json(path.read_bytes())


def test_rate_and_eta_follow_from_what_was_done_since_the_activity_began(tmp_path: Path) -> None:
    progress, clock = reporter(tmp_path / "progress.json")
    progress.begin("training", 100, "steps", done=20)
    clock.now = 10
    progress.advance(20)
    seen = read(tmp_path / "progress.json")
    assert (seen.done, seen.rate, seen.eta_seconds) == (40, "2.00", 30)


def test_it_is_written_at_most_five_times_a_second_and_the_last_always(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    progress, clock = reporter(path)
    progress.begin("training", 100, "steps")
    clock.now = 0.1
    progress.update(done=1, checkpoint_step=1)
    assert read(path).checkpoint_step is None
    progress.flush()
    assert read(path).checkpoint_step == 1


RATES: dict[str, tuple[float, int, int, tuple[str, int]]] = {
    "a rate beyond what can be written": (1e-6, 2**40, 2**50, ("999999999.00", 1124800)),
    "an end beyond what is worth saying": (1e6, 1, 2**50, ("0.0000", 10**9)),
    "more than there was to do": (1.0, 200, 100, ("200.00", 0)),
}


@pytest.mark.parametrize("sentence", RATES)
def test_what_is_written_can_be_read_with(sentence: str, tmp_path: Path) -> None:
    seconds, done, total, expected = RATES[sentence]
    progress, clock = reporter(tmp_path / "progress.json")
    progress.begin("downloading", total, "bytes")
    clock.now = seconds
    progress.advance(done)
    progress.flush()
    seen = read(tmp_path / "progress.json")
    assert (seen.rate, seen.eta_seconds) == expected
