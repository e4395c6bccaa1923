"""The page about a run: right and harmless, whatever the run was and whoever wrote its data."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import artifact, document
from commands import Command, commander
from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import Failure, LoRAFineTuneStatus
from lorafinetune.cli.run import keep
from lorafinetune.contract.answers import MOST_CHARACTERS, Answers
from lorafinetune.report.language import Language
from lorafinetune.report.leaves import flat
from lorafinetune.report.loading import Origin
from lorafinetune.report.page import render
from lorafinetune.report.sources import DataReport, Run, Sources
from searching import examples
from unit.report_runs import (
    Row,
    Shape,
    answers,
    data_report,
    ended,
    evaluations,
    held_out,
    key_of,
    logged,
    put,
    shape,
    steps,
)
from unit.world import World, status_of

HOSTILE = (
    "</title></pre><script src=//evil.example>alert(1)</script><img onerror='x' src=\"http://evil.example\">"
)
TAGS = (
    "html head meta title style body h1 h2 h3 p div b br pre mark table tr th td figure figcaption "
    "details summary svg g line text polygon polyline rect circle"
)
ATTRIBUTES = (
    "lang charset name content http-equiv class role aria-label "
    "viewbox points x y x1 x2 y1 y2 width height cx cy r"
)


def hostile() -> LoRAFineTune:
    """A run whose status was written by somebody who means harm."""
    run = ended()
    failure = Failure(stage="train", reason="Internal", message=HOSTILE, hint=HOSTILE)
    status = status_of(run)
    assert status.model
    assert status.artifacts
    bad = {"source": f"s3://x/{HOSTILE}", "revision": HOSTILE[:100]}
    changes = {
        "stage": HOSTILE[:100],
        "failure": failure,
        "model": status.model.model_copy(update=bad),
        "artifacts": status.artifacts.model_copy(update={"merged": artifact(HOSTILE)}),
    }
    return run.model_copy(update={"status": status.model_copy(update=changes)})


def hostile_report() -> dict[str, Any]:
    return data_report(
        template=HOSTILE,
        templateDifferences={HOSTILE: HOSTILE},
        datasets=[{"source": HOSTILE, "formats": {HOSTILE: HOSTILE}, "dropped": {HOSTILE: 1}}],
        badRows=[HOSTILE],
        warnings=[HOSTILE],
        samples=[[{"text": HOSTILE, "learned": True}, {"text": f"\x00\u202e{HOSTILE}", "learned": False}]],
    )


EXPORTED: Row = {"step": 30, "eval_loss": 2.0, "exported": True}
PAGES: dict[str, tuple[list[Row], Any, dict[str, Any], list[str]]] = {
    "a run without evaluations": (
        steps(30),
        data_report(),
        {},
        ["No verdict: nothing was evaluated", "step 30: 0.06667", "None of the 60 held-out rows"],
    ),
    "a run of one step": (steps(1), data_report(), {}, ["step 1: 2", "step 1: 0.0001"]),
    "a run of one step that logged nothing": (
        [],
        data_report(),
        {},
        ["There is no log of the training yet."],
    ),
    "a run of 20,000 steps": (
        steps(20_000) + evaluations(*(1 / n for n in range(1, 401)), every=50),
        data_report(),
        {},
        ["A point stands for up to 125 steps", "steps 19,876 to 20,000"],
    ),
    "a run that over-fits": (
        steps(30) + evaluations(3, 1, 1.5),
        data_report(),
        {},
        [
            "No verdict: the base model was not evaluated. The loss on the held-out rows fell by 1.5",
            "before the first evaluation is not known",
            "best loss, 1, was at step 20, and has risen by 0.5",
        ],
    ),
    "a run that was stopped early, in FP8": (
        [*steps(30), {"step": 0, "eval_loss": 2.25}, *evaluations(3, 2, 2.5), EXPORTED],
        data_report(),
        {"training": {"precision": "fp8"}},
        [
            "the base and the tuned model differ by 0.25",
            "best loss, 2, was at step 20, and has risen by 0.5",
            "the result, on the unquantised base",
        ],
    ),
    "a run whose result is its best": (
        [*steps(30), {"step": 0, "eval_loss": 2.25}, *evaluations(3, 2, 2.5)],
        data_report(),
        {"training": {"checkpoint": {"select": "best"}, "evaluation": {"fraction": "0.1"}}},
        [
            "the base and the tuned model differ by 0.25",
            "best loss, 2, was at step 20, and rose by 0.5 afterwards: the result is the adapter of that",
        ],
    ),
    "a run with leaked rows": (
        evaluations(2, 1),
        data_report(overlap={"rows": 12, "prompts": 20}),
        {},
        ["there are 48", "12 of the 60 held-out rows are trained on too"],
    ),
    "a run on preferences": (
        [{"step": 10, "eval_loss": 0.5, "eval_rewards/accuracies": 0.75}],
        data_report(objective="dpo"),
        {
            "training": {"objective": "dpo"},
            "datasets": [{"source": "s3://data/x.json", "format": "preference"}],
        },
        ["the base and the tuned model differ by 0.1931", "75.0%", "nats per pair", "the chosen answer"],
    ),
    "a report of an older version": (evaluations(2), {"rows": 7}, {}, ["7 rows to train on"]),
    "hostile rows": (steps(2), hostile_report(), {}, [HOSTILE, f"\ufffd\ufffd{HOSTILE}"]),
}


@pytest.fixture
def lorafinetune(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    monkeypatch.chdir(tmp_path)
    return commander(monkeypatch, capfd)


def check(page: str) -> Shape:
    """Nothing on the page loads or runs anything."""
    found = shape(page)
    assert set(found.tags) <= set(TAGS.split())
    assert {name for _, name, _ in found.attributes} <= set(ATTRIBUTES.split())
    assert not [value for tag, _, value in found.attributes if "//" in value]
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(value for _, name, value in found.attributes if name == "content" and "src" in value)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline';")
    return found


COMPARISONS = {
    "a gain that chance can't have made": (
        held_out(-0.25),
        [
            "the tuned model is better than its base: the loss is lower by 0.25",
            "row by row over 60 rows: −0.25; with 95 % confidence from −0.27",
        ],
    ),
    "a loss in the log that the rows do not have": (
        held_out(0.5),
        [
            "the tuned model is not better than its base: the loss is higher by 0.5",
            "row by row over 60 rows: +0.5; with 95 % confidence from +0.45",
        ],
    ),
    "a difference that may be chance": (
        held_out(-0.25, noise=2),
        ["No verdict: the losses of the base and the tuned model differ by 0.25, which may be chance"],
    ),
    "rows that nobody has compared": (
        None,
        ["No verdict: the losses of the base and the tuned model differ by 0.25, but rows were not compared"],
    ),
}


@pytest.mark.parametrize("sentence", COMPARISONS)
def test_verdict(sentence: str, lorafinetune: Command, tmp_path: Path) -> None:
    compared, expected = COMPARISONS[sentence]
    log = [{"step": 0, "eval_loss": 2.25}, *evaluations(2)]
    assert lorafinetune("report", put(tmp_path, ended(), log, data_report(), {}, compared))[0] == 0
    text = " ".join(check((tmp_path / "tune.html").read_text()).text.split())
    assert [each for each in expected if each not in text] == []
    assert ("not compared" in text) == (compared is None)


@pytest.mark.parametrize("sentence", PAGES)
def test_page(sentence: str, lorafinetune: Command, tmp_path: Path) -> None:
    log, report, spec, expected = PAGES[sentence]
    file = put(tmp_path, ended(spec), log, report, {"seed": 42})
    assert lorafinetune("report", file) == (0, "tune.html\n", "")
    page = (tmp_path / "tune.html").read_text()
    found = check(page)
    text = found.text + " ".join(value for _, _, value in found.attributes)
    assert [each for each in expected if each not in " ".join(text.split()) and each not in text] == []
    assert len(page) < 250_000
    assert lorafinetune("report", file, "--language", "zh")[0] == 0
    assert check((tmp_path / "tune.html").read_text()).tags == found.tags


def test_a_training_that_was_stopped_early_is_told() -> None:
    status = status_of(RUN)
    assert status.training
    stopped = status.training.model_copy(update={"step": 1200, "total_steps": 3000, "stopped_early": True})
    run = RUN.model_copy(update={"status": status.model_copy(update={"training": stopped})})
    page = render(sources(run, steps(3), data_report()), Language.EN, Origin())
    assert "The training was stopped early, after step 1,200 of 3,000" in check(page).text


def sources(run: LoRAFineTune, log: list[Row], report: dict[str, Any]) -> Sources:
    return Sources(Run.of(run), logged(log), DataReport.model_validate(report), {})


def test_hostile_words_in_the_status_stay_words() -> None:
    page = render(sources(hostile(), steps(3), hostile_report()), Language.EN, Origin(HOSTILE))
    assert HOSTILE in check(page).text
    assert "<script" not in page


SIDES = ("prompt", "expected", "base", "tuned")
SAID = dict(zip(SIDES, ("Who are you?", "A model.", "I am GLM.", "I am yours."), strict=True))
ANSWERS: dict[str, tuple[Any, list[str], list[str]]] = {
    "are side by side": (
        answers("", answers=[SAID]),
        ["Answers", "at most 128 tokens", "prompt 1", *SAID.values(), "answer in the data"],
        ["no time", "4 bits", "(nothing)"],
    ),
    "that there was no time for are told": (
        answers("", asked=3, answers=[SAID]),
        ["Prompts for whose answers there was no time: 2 of 3."],
        ["prompt 2"],
    ),
    "that nobody had time for at all are told": (
        answers(asked=8),
        ["Prompts for whose answers there was no time: 8 of 8."],
        ["prompt 1"],
    ),
    "of a base in 4 bits say so": (answers("x", quantized=True), ["Both answered on the base in 4 bits"], []),
    "that say nothing are shown as that": (answers(""), ["(nothing)"], []),
    "of somebody who means harm are words": (
        answers(HOSTILE, f"\x00\u202e{HOSTILE}"),
        [HOSTILE, f"\ufffd\ufffd{HOSTILE}"],
        [],
    ),
    "that are not there have no place": (None, [], ["Answers", "prompt 1"]),
}


@pytest.mark.parametrize("sentence", ANSWERS)
def test_answers(sentence: str, lorafinetune: Command, tmp_path: Path) -> None:
    said, expected, missing = ANSWERS[sentence]
    file = put(tmp_path, RUN, steps(2), data_report(), {}, said=said)
    assert lorafinetune("report", file) == (0, "tune.html\n", "")
    page = (tmp_path / "tune.html").read_text()
    text = " ".join(check(page).text.split())
    assert ([each for each in expected if each not in text], [each for each in missing if each in text]) == (
        [],
        [],
    )
    assert "<script" not in page


def test_as_many_and_as_long_answers_as_there_may_be_make_no_large_page(
    lorafinetune: Command, tmp_path: Path
) -> None:
    file = put(tmp_path, RUN, steps(2), data_report(), {}, said=answers(*["字" * MOST_CHARACTERS] * 8))
    assert lorafinetune("report", file)[0] == 0
    assert len((tmp_path / "tune.html").read_text()) < 120_000


@given(st.text(max_size=40))
@settings(max_examples=examples(25))
def test_no_text_of_a_stranger_changes_the_page(words: str) -> None:
    def tags(text: str) -> list[str]:
        report = data_report(samples=[[{"text": text, "learned": True}]], warnings=[text], template=text)
        told = Answers.model_validate(answers(text, answers=(dict.fromkeys(SIDES, text),)))
        page = render(replace(sources(RUN, steps(2), report), answers=told), Language.EN, Origin(text))
        page.encode()
        return check(page).tags

    assert tags(words) == tags("harmless")


RUN = ended()


def test_a_run_that_has_only_begun_says_what_is_missing(lorafinetune: Command, tmp_path: Path) -> None:
    (tmp_path / "lorafinetune-store" / "bucket").mkdir(parents=True)
    keep(RUN.model_copy(update={"status": LoRAFineTuneStatus()}), tmp_path / "run.yaml")
    assert lorafinetune("report", "run.yaml")[0] == 0
    text = check((tmp_path / "tune.html").read_text()).text
    for said in ("not started", "the training has not come to its end", "no data report", "no result yet"):
        assert said in text


TROUBLED: dict[str, tuple[Callable[[World], None], str]] = {
    "a run that failed": (
        lambda world: world.fail(Reason.DATASET_INVALID, "rows.json:7: empty"),
        "download failed: DatasetInvalid",
    ),
    "a run that waits for a person": (
        lambda world: world.trouble(Reason.SECRET_MISSING, "no Secret s3"),
        "download waits: SecretMissing",
    ),
}


@pytest.mark.parametrize("sentence", TROUBLED)
def test_what_is_wrong_comes_first(sentence: str, lorafinetune: Command, tmp_path: Path) -> None:
    happens, message = TROUBLED[sentence]
    world = World()
    world.settle()
    happens(world)
    world.settle()
    (tmp_path / "lorafinetune-store" / "bucket").mkdir(parents=True)
    keep(world.resource, tmp_path / "run.yaml")
    assert lorafinetune("report", "run.yaml")[0] == 0
    text = check((tmp_path / "tune.html").read_text()).text
    assert text.index(message) < text.index("What to do: ") < text.index("Verdict")


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_program_is_told_where_the_page_is(form: str, lorafinetune: Command, tmp_path: Path) -> None:
    file = put(tmp_path, RUN, steps(2), data_report(), {})
    code, out, err = lorafinetune("report", file, "--language", "zh", "-o", form)
    page = (tmp_path / "tune.html").read_bytes()
    assert (code, err) == (0, "")
    assert yaml.safe_load(out) == {
        "namespace": "team-a",
        "run": "tune",
        "language": "zh",
        "file": "tune.html",
        "sha256": sha256(page).hexdigest(),
    }


def test_a_file_of_somebody_stays(lorafinetune: Command, tmp_path: Path) -> None:
    file = put(tmp_path, RUN, steps(2), data_report(), {})
    (tmp_path / "notes").write_text("mine")
    code, _, err = lorafinetune("report", file, "--to", "notes")
    assert (code, err) == (
        64,
        "ConfigInvalid: notes exists already, and is no report. Give another file with --to.\n",
    )
    assert (tmp_path / "notes").read_text() == "mine"
    assert lorafinetune("report", file, "--to", "no/folder")[2] == (
        "ConfigInvalid: no/folder: no such file or directory. Give another file with --to.\n"
    )


def test_a_store_that_is_elsewhere_is_missed(lorafinetune: Command, tmp_path: Path) -> None:
    file = put(tmp_path, RUN, steps(2), data_report(), {})
    code, _, err = lorafinetune("report", file, "--store", "elsewhere")
    assert (code, "the bucket bucket does not exist" in err) == (64, True), err


def test_a_file_without_status_is_refused(lorafinetune: Command, tmp_path: Path) -> None:
    (tmp_path / "tune.yaml").write_text(json.dumps(document()))
    code, _, err = lorafinetune("report", "tune.yaml")
    assert (code, err.partition(" Give")[0]) == (
        64,
        "ConfigInvalid: tune has no status, so nothing is known of it.",
    )


CORRUPT = {
    "a log that was changed": (
        "trainings/*/metrics.jsonl",
        "{}\n",
        "is not the file that its manifest lists",
    ),
    "a log that is gone": ("trainings/*/metrics.jsonl", None, "is not there any more"),
    "a manifest that was changed": ("trainings/*/manifest.json", "{}", "kind: Field required"),
}


@pytest.mark.parametrize("sentence", CORRUPT)
def test_a_store_that_was_tampered_with(sentence: str, lorafinetune: Command, tmp_path: Path) -> None:
    pattern, content, message = CORRUPT[sentence]
    file = put(tmp_path, RUN, [{"a": 1}], data_report(), {})
    (path,) = (tmp_path / "lorafinetune-store" / "bucket" / "runs").glob(pattern)
    path.unlink() if content is None else path.write_text(content)
    code, _, err = lorafinetune("report", file)
    assert (code, err.startswith("ArtifactCorrupt: s3://bucket/runs/trainings/")) == (64, True)
    assert message in err
    assert not list(tmp_path.glob("*.html"))


ODD_ROWS: dict[str, tuple[list[Row], Any, str]] = {
    "a row without a step": ([{"loss": 1}], data_report(), "metrics.jsonl:1 can't be read: step: "),
    "a loss that is a text": (
        [*steps(1), {"step": 2, "loss": HOSTILE}],
        data_report(),
        "metrics.jsonl:2 can't be read: loss: ",
    ),
    "a loss that is no number": (
        [{"step": 1, "loss": math.nan}],
        data_report(),
        "metrics.jsonl:1 can't be read: ",
    ),
    "a loss of more rows than there are": (
        [],
        data_report(),
        "held_out.json can't be read: ",
    ),
    "answers that are no texts": ([], data_report(), "answers.json can't be read: answers.0.prompt: "),
    "answers of more than they may have": ([], data_report(), "answers.json can't be read: answers: "),
    "a report that is a list": ([], [], "report.json can't be read: "),
    "a sample that is no text": (
        [],
        data_report(samples=[[{"text": 1, "learned": True}]]),
        "report.json can't be read: samples.0.0.text: ",
    ),
}
ODD_ANSWERS: dict[str, Any] = {
    "answers that are no texts": answers("", answers=[SAID | {"prompt": 1}]),
    "answers of more than they may have": answers(*["x"] * 9),
}


@pytest.mark.parametrize("sentence", ODD_ROWS)
def test_what_has_the_wrong_shape_is_refused(sentence: str, lorafinetune: Command, tmp_path: Path) -> None:
    log, report, message = ODD_ROWS[sentence]
    compared = held_out(0.1) | {"tuned": [1.0]} if "held_out" in message else None
    said = ODD_ANSWERS.get(sentence)
    code, _, err = lorafinetune("report", put(tmp_path, RUN, log, report, {}, compared, said))
    assert (code, message in err) == (64, True), err


def test_all_lineage_is_there(lorafinetune: Command, tmp_path: Path) -> None:
    lineage = {"seed": 42, "versions": {"torch": "2.11"}, "hardware": {"gpu": ["H100"]}}
    file = put(tmp_path, RUN, steps(2), data_report(), lineage)
    lorafinetune("report", file)
    text = shape((tmp_path / "tune.html").read_text()).text
    told = [*flat(lineage), "2.11", "H100", key_of(RUN, "train"), key_of(RUN, "prepare")]
    assert [each for each in told if each not in text] == []
