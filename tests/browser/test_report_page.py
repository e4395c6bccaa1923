"""The page about a run in a real browser: nothing is fetched or complained of, and all of it can be read, on
a phone and on a desk, in light and in dark, in both languages, whatever the run was.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from browser.devtools import DESK, PHONE, Tab
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.answers import Answers
from lorafinetune.contract.rowlosses import Compared
from lorafinetune.report.language import Language
from lorafinetune.report.loading import Origin
from lorafinetune.report.page import render
from lorafinetune.report.sources import DataReport, Output, Run, Sources
from unit.report_runs import Row, answers, data_report, ended, evaluations, held_out, logged, steps
from unit.test_cli_report import HOSTILE, hostile, hostile_report
from unit.world import World, status_of

UNBROKEN: Final = "字" * 400 + "w" * 2000
BASE: Final[Row] = {"step": 0, "eval_loss": 2.25}
LINEAGE: Final = {
    "seed": 42,
    "model": {"source": "owner/model", "digest": "d" * 64},
    "versions": {"torch": "2.11.0", "transformers": "5.6.0"},
}


def noisy(count: int) -> list[Row]:
    """A curve as trainings have it."""
    random = Random(0)
    return [
        {"step": n, "loss": 2 / math.sqrt(n) + random.random() / 4, "learning_rate": 1e-4 * (1 - n / count)}
        for n in range(1, count + 1)
    ]


SAID: Final = {
    "prompt": "<|user|>\n我最近总是睡不着。\n<|assistant|>\n",
    "expected": "听起来你最近承受了很多压力。",
    "base": "建议您保持规律的作息，睡前不要看手机。\n\n1. 固定起床时间；\n2. 下午以后不喝咖啡…",
    "tuned": "听起来你这段时间很辛苦，愿意说说睡前都在想什么吗？",
}


def sources(
    log: list[Row], report: dict[str, Any], compared: Any = None, run: Any = None, said: Any = None
) -> Sources:
    outputs = {"trainings": Output("a" * 64, "b" * 64, "2026-01-01T00:00:00Z", LINEAGE)}
    losses = None if compared is None else Compared.decode(compared)
    about = Run.of(run or ended())
    told = None if said is None else Answers.model_validate_json(json.dumps(said))
    rows = DataReport.model_validate(report)
    return Sources(about, logged(log), rows, outputs, losses, told)  # type: ignore[arg-type]


def usual_report() -> dict[str, Any]:
    bins = [{"upTo": 2**n, "rows": 7 * n} for n in range(4, 12)] + [{"upTo": None, "rows": 3}]
    sample = [
        {"text": "<|user|>\n我最近总是睡不着。\n<|assistant|>\n", "learned": False},
        {"text": "听起来你最近承受了很多压力。<|end|>", "learned": True},
    ]
    return data_report(rowsByLength=bins, samples=[sample], warnings=["5 rows are cut at 80 tokens"])


def usual() -> Sources:
    said = answers(asked=8, quantized=True, answers=[SAID] * 7)
    log = [BASE, *noisy(300), *evaluations(2, 1.6, 1.7, every=100)]
    return sources(log, usual_report(), held_out(-0.55), said=said)


def mean() -> Sources:
    samples = [[{"text": UNBROKEN, "learned": True}, {"text": f"\x00\u202e{HOSTILE}", "learned": False}]]
    datasets = [{"source": UNBROKEN[:900], "formats": {HOSTILE: HOSTILE}, "dropped": {HOSTILE: 1}}]
    report = hostile_report() | {"samples": samples, "datasets": datasets, "warnings": [UNBROKEN, HOSTILE]}
    said = answers(UNBROKEN[:2000], HOSTILE, "", "\x00\u202e")
    return sources([BASE, *noisy(3)], report, run=hostile(), said=said)


def failed() -> Sources:
    world = World()
    world.settle()
    world.fail(Reason.DATASET_INVALID, "rows.json:7: the answer is empty")
    world.settle()
    return begun(world.resource)


def refused() -> Sources:
    """By the gate, after its training."""
    evaluation = {"fraction": "0.1", "gate": {"mustImproveBy": "0.5"}}
    world = World({"training": {"evaluation": evaluation}})
    world.run_to_end()
    assert status_of(world.resource).failure
    return sources([BASE, *noisy(30), *evaluations(2.2, 2.15)], usual_report(), run=world.resource)


def begun(run: Any) -> Sources:
    """Of which the store has nothing yet."""
    return Sources(Run.of(run), (), None, {})


def stopped_early() -> Sources:
    run = ended({"training": {"checkpoint": {"select": "best"}, "evaluation": {"fraction": "0.1"}}})
    status = status_of(run)
    assert status.training
    told = status.training.model_copy(update={"step": 30, "total_steps": 300, "stopped_early": True})
    run = run.model_copy(update={"status": status.model_copy(update={"training": told})})
    return sources([BASE, *noisy(30), *evaluations(2, 1.6, 1.9)], usual_report(), held_out(-0.55), run=run)


def preferences() -> Sources:
    data = [{"source": "s3://data/x.json", "format": "preference"}]
    run = ended({"training": {"objective": "dpo"}, "datasets": data})
    log = [{"step": 10 * n, "eval_loss": 0.7 / n, "eval_rewards/accuracies": 1 - 0.5 / n} for n in (1, 2, 3)]
    return sources([*noisy(30), *log], data_report(objective="dpo"), run=run)


PAGES: Final[dict[str, Callable[[], Sources]]] = {
    "a run": usual,
    "a run without evaluations": lambda: sources(noisy(30), data_report()),
    "a run of one step": lambda: sources([BASE, *steps(1), *evaluations(2, every=1)], data_report()),
    "a run of 100,000 steps": lambda: sources(
        [BASE, *noisy(100_000), *evaluations(*(1 / n for n in range(1, 2001)), every=50)],
        data_report(),
        held_out(0.0, rows=4096),
    ),
    "a run on hostile rows": mean,
    "a run that has only begun": lambda: begun(World().resource),
    "a run that failed": failed,
    "a run that its gate refused": refused,
    "a run on preferences": preferences,
    "a run that was stopped early, whose result is its best": stopped_early,
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Language], Path]:
    """Makes a page where it was not made yet."""
    root = tmp_path_factory.mktemp("pages")

    def page(sentence: str, language: Language) -> Path:
        file = root / f"{list(PAGES).index(sentence)}-{language.value}.html"
        if not file.exists():
            file.write_text(render(PAGES[sentence](), language, Origin()))
        return file

    return page


@pytest.mark.parametrize("width", [PHONE, DESK], ids="{} px".format)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("sentence", PAGES)
def test_a_page_can_be_read(
    opened: Callable[..., Tab],
    pages: Callable[[str, Language], Path],
    sentence: str,
    language: Language,
    scheme: str,
    width: int,
) -> None:
    tab = opened(pages(sentence, language), width, scheme)
    assert tab.frowns() == []
    assert tab.evaluate(f"matchMedia('(prefers-color-scheme: {scheme})').matches")
    assert (tab.complaints(), tab.requests()) == ([], [])


@pytest.mark.parametrize(
    ("mark", "value"),
    [
        pytest.param(".slice:has(rect)", "steps 2 to 3: ", id="of a step"),
        pytest.param(".slice:has(circle)", "held-out rows, step 100: 2", id="of an evaluation"),
    ],
)
@pytest.mark.parametrize("width", [PHONE, DESK], ids="{} px".format)
def test_a_curve_says_its_values_where_it_is_pointed_at(
    opened: Callable[..., Tab], pages: Callable[[str, Language], Path], width: int, mark: str, value: str
) -> None:
    tab = opened(pages("a run", Language.EN), width, "light")
    tab.evaluate(
        f"mark = document.querySelectorAll('{mark}')[1].firstElementChild;"
        "mark.scrollIntoView({block: 'center'});"
        "shown = () => getComputedStyle(mark.nextElementSibling).visibility"
    )
    assert tab.evaluate("shown()") == "hidden"
    box = tab.evaluate("mark.getBoundingClientRect().toJSON()")
    tab.point_at(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert tab.evaluate("shown()") == "visible"
    said = tab.evaluate("mark.nextElementSibling.textContent.trim()")
    place = tab.evaluate("mark.nextElementSibling.getBoundingClientRect().toJSON()")
    assert said.startswith(value)
    assert 0 <= place["left"] < place["right"] <= width


BAD: Final = {
    "a text that can hardly be read": ("<p style='color: #999; background: #aaa'>x</p>", "1."),
    "a box that is too wide": ("<p style='width: 2000px'>x</p>", "it is 2000 wide"),
    "a letter that is too small": ("<p style='font-size: 6px'>x</p>", "6.0 px: x"),
}


@pytest.mark.parametrize("sentence", BAD)
def test_what_it_finds(opened: Callable[..., Tab], tmp_path: Path, sentence: str) -> None:
    body, expected = BAD[sentence]
    page = tmp_path / "bad.html"
    page.write_text(f"<!doctype html><body style='margin: 0'>{body}")
    (said,) = opened(page, DESK, "light").frowns()
    assert said.startswith(expected)


def test_it_hears_of_what_is_fetched_and_complained_of(opened: Callable[..., Tab], tmp_path: Path) -> None:
    page = tmp_path / "noisy.html"
    page.write_text("<!doctype html><img src='elsewhere.png'><script>console.error('no')</script>")
    tab = opened(page, DESK, "light")
    assert [url.rpartition("/")[2] for url in tab.requests()] == ["elsewhere.png"]
    assert len(tab.complaints()) >= 1
