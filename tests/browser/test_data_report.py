"""The page about prepared data in a real browser: of real rows, and of those of somebody who means harm."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from browser.devtools import DESK, PHONE, Tab
from lorafinetune.api.datasets import Dataset
from lorafinetune_stages.prepare.conversation import Conversation
from lorafinetune_stages.prepare.findings import Findings, Kind, RowError
from lorafinetune_stages.prepare.fingerprints import Overlap
from lorafinetune_stages.prepare.page import render
from lorafinetune_stages.prepare.report import Report, SplitSummary
from stages.prepare_builders import EMOLLM, Bench
from unit.test_cli_report import HOSTILE

FILES: Final = ("self_cognition_EmoLLM.json", "ruozhiba_raw.jsonl", "aiwei.json")
CUTOFF: Final = 1024
UNBROKEN: Final = "字" * 400 + "w" * 2000


def pieces(conversation: Conversation) -> Iterator[tuple[str, bool]]:
    """As a ChatML model sees it."""
    for turn in conversation.turns:
        yield f"<|im_start|>{turn.role}\n", False
        yield f"{turn.content}<|im_end|>\n", turn.role == "assistant"


def of_real_rows(folder: Path) -> dict[str, Any]:
    """A character stands for a token."""
    folder.mkdir()
    benches = [Bench(folder / name).add((EMOLLM / name).read_bytes(), name) for name in FILES]
    findings = Findings([bench.datasets[0] for bench in benches])
    training = SplitSummary()
    samples = []
    for index, bench in enumerate(benches):
        rows = [list(pieces(each)) for each in bench.conversations()]
        findings.count_rows(index, len(rows))
        training.rows_by_dataset[index] = len(rows)
        training.lengths.extend(sum(len(text) for text, _ in row) for row in rows)
        samples.append(rows[-1])
    training.tokens = sum(training.lengths)
    return report(
        sources=[bench.datasets[0].source for bench in benches],
        formats=[{name: "multiTurn"} for name in FILES],
        findings=findings,
        repeated=[0] * len(FILES),
        training=training,
        samples=samples,
    ).encode()


def of_hostile_rows(folder: Path) -> dict[str, Any]:
    findings = Findings([Dataset(source="s3://raw/a")])
    findings.add(0, f"{HOSTILE}.jsonl:3", RowError(Kind.EMPTY_ANSWER, HOSTILE, UNBROKEN))
    training = SplitSummary(blocks=3, left_tokens=9)
    training.lengths.extend([1, 2**40])
    return report(
        sources=[UNBROKEN[:900]],
        formats=[{HOSTILE: HOSTILE}],
        findings=findings,
        repeated=[10**9],
        training=training,
        warnings=[UNBROKEN, HOSTILE],
        differences={UNBROKEN: HOSTILE, HOSTILE: UNBROKEN},
        samples=[[(UNBROKEN, True)], [(f"\x00\u202e{HOSTILE}", False)]],
        objective="pt",
    ).encode()


def report(**fields: Any) -> Report:
    usual = {"template": "smollm2", "cutoff": CUTOFF, "deduplicated": True, "held_out": SplitSummary()}
    others = {"overlap": Overlap(0, 0), "warnings": [], "differences": {}}
    return Report(**usual | others | fields)  # type: ignore[arg-type]


PAGES: Final[dict[str, Callable[[Path], dict[str, Any]]]] = {
    "real rows": of_real_rows,
    "hostile rows": of_hostile_rows,
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pages")
    made = {sentence: root / f"{number}.html" for number, sentence in enumerate(PAGES)}
    for sentence, page in made.items():
        page.write_text(render(PAGES[sentence](root / f"{page.stem}-bench")))
    return made


@pytest.mark.parametrize("width", [PHONE, DESK], ids="{} px".format)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("sentence", PAGES)
def test_the_data_report_can_be_read(
    opened: Callable[..., Tab], pages: dict[str, Path], sentence: str, scheme: str, width: int
) -> None:
    tab = opened(pages[sentence], width, scheme)
    assert tab.frowns() == []
    assert (tab.complaints(), tab.requests()) == ([], [])
    assert tab.evaluate("document.querySelectorAll('script, img').length") == 0
    assert not {"\x00", "\u202e"} & set(tab.evaluate("document.body.textContent"))
