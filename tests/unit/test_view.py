"""What a person sees of a run."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from builders import result, sha
from lorafinetune.api.artifacts import Published
from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import TrainingStatus
from lorafinetune.cli.humanize import describe
from lorafinetune.cli.summary import Environment, places, summary
from lorafinetune.cli.view import LiveView, PlainView
from lorafinetune.contract.outcome import Progress
from lorafinetune.core.events import Event
from lorafinetune.core.results import record
from lorafinetune.core.steps import stage_status
from unit.world import World

HERE = Environment(places(None))

DESCRIPTIONS = {
    "many bytes are shown in MB": (
        Progress(
            stage="download",
            activity="downloading",
            done=5_000_000,
            total=9_500_000,
            unit="bytes",
            rate="2500000.00",
            eta_seconds=2,
        ),
        "downloading 5.0/9.5 MB, 2.5 MB/s, 2s left",
    ),
    "rows have thousands": (
        Progress(stage="prepare", activity="tokenising", done=1500, total=2500, unit="rows", rate="700.00"),
        "tokenising 1,500/2,500 rows, 700 rows/s",
    ),
    "few bytes are shown in kB": (
        Progress(stage="prepare", activity="reading", done=20_600, total=20_600, unit="bytes"),
        "reading 20.6/20.6 kB",
    ),
    "what is all there needs no rate and no time": (
        Progress(
            stage="prepare",
            activity="reading",
            done=38,
            total=38,
            unit="bytes",
            rate="900.00",
            eta_seconds=0,
        ),
        "reading 38/38 bytes",
    ),
    "a total that is not known is left out": (
        Progress(stage="download", activity="checking", done=7, unit="files", rate="7.00"),
        "checking 7 files, 7.0 files/s",
    ),
    "slow steps are seconds a step": (
        Progress(stage="train", activity="training", done=3, total=100, rate="0.52", eta_seconds=187),
        "training 3/100 steps, 1.9 s/step, 3m7s left",
    ),
    "the loss stands at the end": (
        Progress(
            stage="train",
            activity="training",
            done=3,
            total=100,
            training=TrainingStatus(step=3, total_steps=100, loss="1.25"),
        ),
        "training 3/100 steps, loss 1.25",
    ),
    "an activity that counts nothing is its name": (
        Progress(stage="train", activity="loading the model"),
        "loading the model",
    ),
    "nothing is said of a stage that has said nothing": (Progress(stage="train"), ""),
}


@pytest.mark.parametrize("sentence", DESCRIPTIONS)
def test_description(sentence: str) -> None:
    progress, expected = DESCRIPTIONS[sentence]
    assert describe(progress) == expected


def test_a_finished_run_says_where_everything_is() -> None:
    world = World({"export": {"merged": {}}})
    world.run_to_end()
    lines = summary(world.resource, Environment(places(Path("/store"))), "")
    assert [line.split()[0] for line in lines] == ["adapter", "merged", "loss", "manifest", "data"]
    training = stage_status(world.status, "train").key
    assert lines[0] == f"adapter      /store/bucket/runs/trainings/{training}/adapter"


def test_a_finished_run_says_where_it_was_published() -> None:
    targets = [{"to": "hf://team/tuned"}, {"to": "s3://models/tuned"}]
    published = tuple(Published(uri=target["to"], revision="c0ffee") for target in targets)
    world = World({"export": {"merged": {}, "publish": targets}})
    world.run_to_end()
    exported = result("export", published=published)
    status = record(world.status, "export", sha("inputs"), exported, world.now)
    ended = world.resource.model_copy(update={"status": status})
    lines = summary(ended, Environment(places(Path("/store"))), "")
    assert [line for line in lines if line.startswith("published")] == [
        "published    hf://team/tuned",
        "published    /store/models/tuned",
    ]


def test_a_failed_run_says_why_and_what_to_do_and_where_the_log_is() -> None:
    world = World()
    world.settle()
    world.fail(Reason.MODEL_NOT_FOUND, "spec.model.source: there is no repository owner/model")
    world.settle()
    assert summary(world.resource, HERE, "/logs/download") == [
        "download failed: ModelNotFound: spec.model.source: there is no repository owner/model",
        "hint: Check `spec.model.source` and `spec.model.revision`.",
        "log: /logs/download",
    ]


@pytest.mark.parametrize(
    ("complete", "at"),
    [
        pytest.param([], "", id="at its beginning"),
        pytest.param(["download", "prepare", "train"], " after the training", id="in its export"),
    ],
)
def test_a_stopped_run_says_how_to_go_on(complete: list[str], at: str) -> None:
    world = World({"export": {"merged": {}}})
    for _ in complete:
        world.settle()
        world.succeed()
    world.settle()
    world.edit({"suspend": True})
    world.settle()
    assert summary(world.resource, HERE, "") == [f"stopped{at}; the same command goes on from there"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_a_terminal_there_is_a_line_for_every_event_and_one_for_news_every_ten_seconds() -> None:
    world = World()
    made = world.reconcile()
    job = world.active()
    assert job is not None
    out, clock = StringIO(), Clock()
    view = PlainView(Console(file=out), HERE, clock)
    progress = {job.name: Progress(stage="download", activity="downloading", done=1, total=4, unit="files")}
    view.show(world.resource, progress, made.events)
    view.show(world.resource, progress, ())
    for clock.now in (11, 22, 33):
        progress = {job.name: progress[job.name].model_copy(update={"done": clock.now // 11})}
        view.show(world.resource, progress, ())
    lines = [f"download: downloading {done}/4 files" for done in (1, 2, 3)]
    assert out.getvalue().splitlines() == [made.events[0].message, *lines]


def test_text_from_outside_brings_no_markup_and_no_terminal_codes() -> None:
    out = StringIO()
    view = LiveView(Console(file=out, force_terminal=True, width=100), HERE)
    evil = Event("Warning", "StageRetried", "[bold]x[/] \x1b]0;owned\x07 \x1b[2J")
    view.show(World().resource, {}, (evil,))
    assert "[bold]x[/]" in out.getvalue()
    assert "\x1b]0;" not in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()
