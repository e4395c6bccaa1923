"""What a person sees of a run on a cluster: a table of states and the text that they lead to."""

from collections.abc import Mapping
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from builders import NOW, document
from lorafinetune.api.codec import decode
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.cli.errors import CommandError
from lorafinetune.cli.humanize import sparkline
from lorafinetune.cli.runs import decoded, has_ended, situation_of
from lorafinetune.cli.summary import Environment
from lorafinetune.cli.view import LiveView
from lorafinetune.cli.watch import seconds, told_by
from lorafinetune.contract.outcome import ExitCode
from lorafinetune.contract.times import rfc3339
from lorafinetune.core.events import Event
from unit.test_plan import run_until
from unit.world import World

DONE = {"name": "download", "state": "Complete", "cacheHit": True}
PREPARED = {"name": "prepare", "state": "Complete", "cacheHit": False}
STARTING = {"name": "train", "state": "Running", "job": "lft-train-1"}
COUNTED = {"message": "training", "progress": {"done": 42, "total": 100, "unit": "steps"}}
CURVE = [{"step": step, "loss": loss} for step, loss in ((10, "3"), (20, "2"), (30, "1.5"), (40, "1"))]
NUMBERS = {"step": 42, "totalSteps": 100, "loss": "1.0", "recent": CURVE}
MEASURED = [{"step": 10 + step, "loss": f"{2 / (1 + step):.6f}"} for step in range(32)]
"""As a training writes its losses."""
LONG = {"step": 42, "totalSteps": 100, "loss": "0.062500", "recent": MEASURED}


def a_run(status: Mapping[str, Any] | None, **metadata: Any) -> LoRAFineTune:
    return decode(document(**metadata) | ({"status": dict(status)} if status is not None else {}))


def conditions(**reasons: str) -> list[dict[str, str]]:
    """Those that are true, with their reasons; Ready is told beside them."""
    told = {"Ready": reasons.get("Ready", next(iter(reasons.values()))), **reasons}
    return [
        {
            "type": kind,
            "status": "False" if kind == "Ready" and "Complete" not in told else "True",
            "reason": reason,
            "message": "as it is",
            "lastTransitionTime": rfc3339(NOW),
        }
        for kind, reason in told.items()
    ]


def queued(why: str) -> dict[str, Any]:
    """The status of a run whose training is held by its queue, as the operator writes it."""
    world = World()
    run_until("train")(world)
    world.hold(why)
    world.reconcile()
    return world.status.encode()


SCREENS: dict[str, tuple[dict[str, Any], int, int, list[str]]] = {
    "a run that nobody has looked at has four stages ahead": (
        {},
        80,
        0,
        ["· download", "· prepare", "· train", "· export"],
    ),
    "a stage that has said nothing pulses without words": (
        {"stages": [DONE, PREPARED, STARTING]},
        80,
        0,
        [
            "✓ download ━━━━━━━━━━━━━━━━━━━━━━━━ found in the store",
            "✓ prepare  ━━━━━━━━━━━━━━━━━━━━━━━━ done",
            "▶ train    ━━━━━━━━━━━━━━━━━━━━━━━━",
            "· export",
        ],
    ),
    "a training shows steps, time left, loss and its curve": (
        {"stages": [DONE, PREPARED, STARTING | COUNTED], "eta": "1m30s", "training": NUMBERS},
        100,
        0,
        [
            "✓ download ━━━━━━━━━━━━━━━━━━━━━━━━ found in the store",
            "✓ prepare  ━━━━━━━━━━━━━━━━━━━━━━━━ done",
            "▶ train    ━━━━━━━━━━               training 42/100 steps, 1m30s left, loss 1.0",
            "· export",
            "  loss   █▅▃▁  3 → 1",
        ],
    ),
    "the time that is left runs down while nothing new is told, and what is old says so": (
        {"stages": [STARTING | COUNTED], "eta": "1m30s", "training": NUMBERS},
        100,
        40,
        [
            "· download",
            "· prepare",
            "▶ train    ━━━━━━━━━━               training 42/100 steps, 50s left, loss 1.0 (40s ago)",
            "· export",
            "  loss   █▅▃▁  3 → 1",
        ],
    ),
    "a narrow terminal cuts words, and breaks no line": (
        {"stages": [STARTING | COUNTED], "eta": "1m30s", "training": NUMBERS},
        32,
        0,
        ["· download", "· prepare", "▶ train     training 42/100 ste…", "· export", "  loss   █▅▃▁  3 → 1"],
    ),
    "losses as they are measured are whole on 80 columns": (
        {"stages": [DONE, STARTING | COUNTED], "eta": "1m30s", "training": LONG},
        80,
        0,
        [
            "✓ download ━━━━━━━━━━━━━━━━ found in the store",
            "· prepare",
            "▶ train    ━━━━━━╸          training 42/100 steps, 1m30s left, loss 0.062500",
            "· export",
            "  loss   █▄▃▃▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁  2.000000 → 0.062500",
        ],
    ),
    "they are whole on 60 columns, and there is no room for a bar": (
        {"stages": [DONE, STARTING | COUNTED], "eta": "1m30s", "training": LONG},
        60,
        0,
        [
            "✓ download  found in the store",
            "· prepare",
            "▶ train     training 42/100 steps, 1m30s left, loss 0.062500",
            "· export",
            "  loss   █▆▅▄▄▃▃▃▂▂▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁  0.666667 → 0.062500",
        ],
    ),
    "on 40 columns the last one is whole in the curve, which is shorter": (
        {"stages": [STARTING | COUNTED], "eta": "1m30s", "training": LONG},
        40,
        0,
        [
            "· download",
            "· prepare",
            "▶ train     training 42/100 steps, 1m30…",
            "· export",
            "  loss   █▇▆▅▄▄▃▂▂▁  0.086957 → 0.062500",
        ],
    ),
    "a stage that waits says for what": (
        {"stages": [{"name": "download", "state": "Waiting", "message": "Secret s3 is missing\nmore"}]},
        80,
        0,
        ["… download  Secret s3 is missing", "· prepare", "· train", "· export"],
    ),
    "a training in its queue says why": (
        queued("insufficient unused quota for nvidia.com/gpu"),
        95,
        0,
        [
            "✓ download ━━━━━━━━━━━━━━━━━━━━━━━━ done",
            "✓ prepare  ━━━━━━━━━━━━━━━━━━━━━━━━ done",
            "… train                             the training waits in its queue: insufficient unused quota…",
            "· export",
        ],
    ),
    "a stranger's text brings no terminal codes": (
        {"stages": [STARTING | {"message": "\x1b[2Jgone [red]x[/]"}]},
        80,
        0,
        [
            "· download",
            "· prepare",
            "▶ train    ━━━━━━━━━━━━━━━━━━━━━━━━ \ufffd[2Jgone [red]x[/]",
            "· export",
        ],
    ),
}


@pytest.mark.parametrize("sentence", SCREENS)
def test_screen(sentence: str) -> None:
    status, width, later, expected = SCREENS[sentence]
    moments = iter((0.0, 0.0, *[float(later)] * 9))
    console = Console(file=StringIO(), force_terminal=True, width=width, color_system=None)
    view = LiveView(console, Environment(str), clock=lambda: next(moments))
    run = a_run(status)
    view.show(run, told_by(run), ())
    with console.capture() as shown:
        console.print(view.drawn())
    assert [line.rstrip() for line in shown.get().splitlines()] == expected


ABOVE: dict[str, tuple[Event, list[str]]] = {
    "what somebody may have to mend": (
        Event("Warning", "SecretMissing", 'secret "s3" not found'),
        ['SecretMissing: secret "s3" not found'],
    ),
    "why a queue holds a training": (Event("Normal", "Queued", "x" * 70), [f"Queued: {'x' * 70}"]),
    "nothing of what the table shows": (Event("Normal", "StageStarted", "train began as Job a"), []),
}


@pytest.mark.parametrize("sentence", ABOVE)
def test_above_the_table_stands_in_full(sentence: str) -> None:
    event, expected = ABOVE[sentence]
    console = Console(file=StringIO(), force_terminal=True, width=80, color_system=None)
    view = LiveView(console, Environment(str))
    with console.capture() as shown:
        view.show(a_run({}), {}, (event,))
    assert shown.get().splitlines() == expected


def test_a_note_about_the_watching_stands_below_and_goes_again() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=80, color_system=None)
    view = LiveView(console, Environment(str))
    view.show(a_run({}), {}, ())
    texts = []
    for note in ("NoAnswer: it is tried again", ""):
        view.note(note)
        with console.capture() as shown:
            console.print(view.drawn())
        texts.append(shown.get())
    assert ["NoAnswer" in text for text in texts] == [True, False]


SKEWS: dict[str, tuple[dict[str, Any], str]] = {
    "a spec has a field that this command does not know": (
        document({"novelty": "x"}),
        "spec.novelty: unknown field",
    ),
    "a status has one": (document() | {"status": {"novelty": "x"}}, "status.novelty: unknown field"),
    "a status has a word that is none here": (
        document() | {"status": {"stages": [{"name": "polish"}]}},
        "status.stages[0].name: must be ",
    ),
    "a version of the resource is another": (
        document() | {"apiVersion": "lorafinetune.dev/v9"},
        "apiVersion: must be lorafinetune.dev/v1alpha1, not lorafinetune.dev/v9",
    ),
    "a name of a field is a stranger's": (
        document({"\x1b[2J\n": "x"}),
        r"spec.\x1b[2J\n: unknown field",
    ),
}


@pytest.mark.parametrize("sentence", SKEWS)
def test_a_run_of_a_newer_operator_is_refused_in_a_sentence_where(sentence: str) -> None:
    run, said = SKEWS[sentence]
    with pytest.raises(CommandError) as refused:
        decoded(run)
    assert refused.value.code == ExitCode.BAD_INPUT
    assert refused.value.message.startswith(f"ConfigInvalid: tune can't be read: {said}")
    assert refused.value.message.endswith(". Install the CLI in the operator's version.")
    assert "\n" not in refused.value.message
    assert "\x1b" not in refused.value.message


def test_a_run_of_an_older_operator_is_read() -> None:
    assert decoded(document() | {"status": {"stage": "Train", "stages": [DONE]}}).status is not None


ENDS: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "nothing is known yet": ({}, {}, False),
    "it runs": ({"observedGeneration": 2, "conditions": conditions(Reconciling="Train")}, {}, False),
    "it is complete": ({"observedGeneration": 2, "conditions": conditions(Complete="Complete")}, {}, True),
    "it has failed": ({"observedGeneration": 2, "conditions": conditions(Failed="Internal")}, {}, True),
    "it is suspended": ({"observedGeneration": 2, "conditions": conditions(Suspended="Suspended")}, {}, True),
    "it ended before it was edited": (
        {"observedGeneration": 1, "conditions": conditions(Complete="Complete")},
        {},
        False,
    ),
    "it ended before it was asked to look again": (
        {"observedGeneration": 2, "conditions": conditions(Failed="Internal")},
        {"annotations": {"lorafinetune.dev/refresh": "now"}},
        False,
    ),
}


@pytest.mark.parametrize("sentence", ENDS)
def test_a_run_has_ended_where(sentence: str) -> None:
    status, metadata, expected = ENDS[sentence]
    assert has_ended(a_run(status, generation=2, **metadata)) is expected


SITUATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "without conditions it waits for the operator": ({}, "Waiting"),
    "with a running stage it runs": ({"conditions": conditions(Reconciling="Train")}, "Running"),
    "in its queue it waits": ({"conditions": conditions(Reconciling="Queued", Queued="Queued")}, "Waiting"),
    "with a failure that may be mended it waits": (
        {
            "conditions": conditions(Reconciling="SecretMissing"),
            "failure": {"reason": "SecretMissing", "message": "m"},
        },
        "Waiting",
    ),
    "with a true end it is there": ({"conditions": conditions(Failed="Internal")}, "Failed"),
}


@pytest.mark.parametrize("sentence", SITUATIONS)
def test_situation(sentence: str) -> None:
    status, kind = SITUATIONS[sentence]
    assert situation_of(a_run(status)).kind == kind


@pytest.mark.parametrize(
    ("text", "expected"),
    [("12s", 12), ("3m7s", 187), ("1h30m", 5400), ("", None), ("soon", None), ("1h junk", None)],
)
def test_durations_are_read_back(text: str, expected: int | None) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([], "", id="nothing"),
        pytest.param([1.0, 1.0], "▁▁", id="a flat line is at the bottom"),
        pytest.param([0.0, 0.5, 1.0], "▁▅█", id="from least to greatest"),
        pytest.param([2.0, float("inf"), 1.0], "█▁", id="what is no number is left out"),
    ],
)
def test_sparkline(values: list[float], expected: str) -> None:
    assert sparkline(values) == expected
