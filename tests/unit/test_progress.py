"""The progress of a stage, as whoever runs it sees it."""

from pathlib import Path

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
