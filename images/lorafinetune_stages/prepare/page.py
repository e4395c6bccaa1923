"""The page of the data report: one file that contains its picture and style, and loads and runs nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lorafinetune.api.quantity import amount
from lorafinetune.api.status import Estimate
from lorafinetune.contract.arguments import PrepareArguments
from lorafinetune.contract.memory import GIB
from lorafinetune.contract.times import duration
from lorafinetune.report.templates import environment

TEMPLATE: Final = "report.html.jinja"
VERDICT: Final = "verdict.html.jinja"
TOP: Final = b"<body>\n"
"""After which a page begins; all that comes from outside is escaped, so this stands nowhere else."""
WIDTH: Final = 480
HEIGHT: Final = 120


@dataclass(frozen=True)
class Bar:
    """One bar of the histogram, in pixels from the top left. over: whether it is beyond the cutoff."""

    x: float
    y: float
    width: float
    height: float
    rows: int
    label: str
    over: bool


def render(report: Mapping[str, Any]) -> str:
    """The page of an encoded report."""
    page = environment(Path(__file__).parent).get_template(TEMPLATE)
    return page.render(report=report, bars=bars(report["rowsByLength"]), width=WIDTH, height=HEIGHT)


def add_verdict(
    page: bytes, estimate: Estimate, arguments: PrepareArguments, warnings: Sequence[str]
) -> bytes:
    """The page of a data report, with what was proven of a training at its top."""
    template = environment(Path(__file__).parent).get_template(VERDICT)
    memory, gpus = arguments.gpu.memory, arguments.gpu.count * (arguments.nodes or 1)
    verdict = template.render(
        estimate=estimate,
        training=arguments.training,
        gpus=gpus,
        memory=None if memory is None else amount(memory),
        scratch=amount(arguments.scratch),
        warnings=warnings,
        duration=duration,
        gib=_gib,
    )
    return page.replace(TOP, TOP + verdict.encode() + b"\n", 1)


def _gib(size: float) -> str:
    return f"{size / GIB:,.1f} GiB"


def bars(by_length: list[dict[str, int | None]]) -> list[Bar]:
    """The histogram as a picture."""
    most = max((entry["rows"] or 0 for entry in by_length), default=0) or 1
    width = WIDTH / len(by_length)
    found = []
    for index, entry in enumerate(by_length):
        rows, top = entry["rows"] or 0, entry["upTo"]
        height = round(HEIGHT * rows / most, 1)
        label = f"≤{top}" if top is not None else "over"
        x = round(index * width, 1)
        found.append(Bar(x, HEIGHT - height, round(width - 6, 1), height, rows, label, top is None))
    return found
