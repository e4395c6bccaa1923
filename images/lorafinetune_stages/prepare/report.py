"""The data report: what went into the prepared dataset, what did not, and how it looks to the model."""

import bisect
import json
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

from lorafinetune_stages.prepare.findings import Findings
from lorafinetune_stages.prepare.formats import FormatName

REPORT: Final = "report.json"
HISTOGRAM_BINS: Final = 8
MAX_SAMPLE_CHARACTERS: Final = 4000


@dataclass
class SplitSummary:
    """Numbers of the rows of one split. lengths: tokens of every row before anything was cut off."""

    rows_by_dataset: Counter[int] = field(default_factory=Counter)
    tokens: int = 0
    learned_tokens: int = 0
    truncated: int = 0
    without_system: int = 0
    lengths: "array[int]" = field(default_factory=lambda: array("Q"))

    @property
    def rows(self) -> int:
        return self.rows_by_dataset.total()


@dataclass(frozen=True)
class Report:
    """samples: rendered rows in pieces, each piece with whether it is learned. differences: renderings of
    the template and of the model's own, where they are not the same."""

    template: str
    cutoff: int
    sources: Sequence[str]
    formats: Sequence[dict[str, FormatName]]
    findings: Findings
    training: SplitSummary
    held_out: SplitSummary
    warnings: Sequence[str]
    differences: dict[str, str]
    samples: Sequence[Sequence[tuple[str, bool]]]

    def encode(self) -> dict[str, Any]:
        return {
            "template": self.template,
            "templateDifferences": self.differences,
            "datasets": [self._dataset(index) for index in range(len(self.sources))],
            "rows": self.training.rows,
            "evalRows": self.held_out.rows,
            "dropped": self.findings.bad,
            "badRows": self.findings.places,
            "tokens": self.training.tokens,
            "learnedTokens": self.training.learned_tokens,
            "evalTokens": self.held_out.tokens,
            "cutoffLength": self.cutoff,
            "truncatedRows": self.training.truncated + self.held_out.truncated,
            "rowsByLength": histogram(chain(self.training.lengths, self.held_out.lengths), self.cutoff),
            "warnings": list(self.warnings),
            "samples": [_sample(pieces) for pieces in self.samples],
        }

    def write(self, directory: Path) -> None:
        text = json.dumps(self.encode(), indent=1, ensure_ascii=False)
        (directory / REPORT).write_text(text, encoding="utf-8")

    def _dataset(self, index: int) -> dict[str, Any]:
        kinds = self.findings.kinds[index]
        return {
            "source": self.sources[index],
            "formats": self.formats[index],
            "rowsRead": self.findings.rows[index],
            "rows": self.training.rows_by_dataset[index],
            "evalRows": self.held_out.rows_by_dataset[index],
            "dropped": {str(kind): kinds[kind] for kind in sorted(kinds)},
        }


def histogram(lengths: Iterable[int], cutoff: int) -> list[dict[str, int | None]]:
    """Rows by length in tokens: equal steps up to the cutoff, and what is over it."""
    tops = [cutoff * step // HISTOGRAM_BINS for step in range(1, HISTOGRAM_BINS + 1)]
    counts = Counter(bisect.bisect_left(tops, length) for length in lengths)
    return [{"upTo": top, "rows": counts[index]} for index, top in enumerate([*tops, None])]


def _sample(pieces: Sequence[tuple[str, bool]]) -> list[dict[str, Any]]:
    left = MAX_SAMPLE_CHARACTERS
    shown = []
    for text, learned in pieces:
        if left > 0:
            shown.append({"text": text[:left], "learned": learned})
        left -= len(text)
    return shown
