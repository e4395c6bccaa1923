"""The page about prepared data in a real browser, by itself and below the verdict on a training: of real
rows, and of those of somebody who means harm.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from browser.devtools import DESK, PHONE, Tab
from lorafinetune.api.datasets import Dataset
from lorafinetune.api.pods import Gpu
from lorafinetune.api.status import Estimate
from lorafinetune.api.training import Training
from lorafinetune.contract.memory import GIB
from lorafinetune_stages.prepare.conversation import Conversation
from lorafinetune_stages.prepare.findings import Findings, Kind, RowError
from lorafinetune_stages.prepare.fingerprints import Overlap
from lorafinetune_stages.prepare.page import add_verdict, render
from lorafinetune_stages.prepare.report import Report, SplitSummary
from stages.prepare_builders import EMOLLM, Bench
from unit.test_cli_report import HOSTILE
from unit.test_prepare_report import PACKED, PLAIN, STOPPED, prepare_arguments

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


def judged(
    report: dict[str, Any], training: Training, gpu: Gpu, estimate: dict[str, Any], warnings: list[str]
) -> bytes:
    usual = {"steps": 1234, "seconds": 5025, "evaluating_seconds": 61, "disk": 7 * GIB}
    proven = Estimate.model_validate(usual | estimate)
    return add_verdict(render(report).encode(), proven, prepare_arguments(training, gpu), warnings)


FITTING: Final = {"gpu_memory": 19 * GIB, "micro_batch": 4, "gradient_checkpointing": True}
HUGE: Final = {
    **dict.fromkeys(("steps", "micro_batch"), 10**9),
    **dict.fromkeys(("packs", "seconds", "evaluating_seconds", "disk", "gpu_memory"), 2**53),
    "gradient_checkpointing": False,
}
LONG: Final = [
    "two cores train this in about 12 days: that is what a GPU is for; set `spec.resources.train.gpu`, or "
    "train fewer epochs of a smaller base on them",
    "训练数据只有 3 行，少于 training.batchSize 16：每一步都会用到全部数据。" * 6,
]

PAGES: Final[dict[str, Callable[[Path], bytes]]] = {
    "real rows": lambda folder: render(of_real_rows(folder)).encode(),
    "hostile rows": lambda folder: render(of_hostile_rows(folder)).encode(),
    "a training of real rows that fits its card": lambda folder: judged(
        of_real_rows(folder), STOPPED, Gpu(memory="24Gi"), FITTING, []
    ),
    "a training without a card that is warned of": lambda folder: judged(
        of_real_rows(folder), PLAIN, Gpu(count=0), {"evaluating_seconds": 0}, LONG
    ),
    "a training of hostile rows with numbers beyond all measure": lambda folder: judged(
        of_hostile_rows(folder), PACKED, Gpu(count=8, memory="999999Ti"), HUGE, [UNBROKEN, HOSTILE]
    ),
    "a training of hostile rows on any card": lambda folder: judged(
        of_hostile_rows(folder), PLAIN, Gpu(), {}, [f"\x00\u202e{HOSTILE}"]
    ),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pages")
    made = {sentence: root / f"{number}.html" for number, sentence in enumerate(PAGES)}
    for sentence, page in made.items():
        page.write_bytes(PAGES[sentence](root / f"{page.stem}-bench"))
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
