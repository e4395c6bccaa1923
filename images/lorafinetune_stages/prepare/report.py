"""The data report: what went into the prepared dataset, what did not, and how it looks to the model.

It is written twice: as JSON for programs, and as one page for people that needs nothing else.
"""

import heapq
import json
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

from lorafinetune.api.training import Objective
from lorafinetune.contract.memory import KEPT_LENGTHS
from lorafinetune_stages.prepare.findings import Findings
from lorafinetune_stages.prepare.fingerprints import Overlap
from lorafinetune_stages.prepare.formats import FormatName
from lorafinetune_stages.prepare.lengths import histogram, padding
from lorafinetune_stages.prepare.output import PAGE, REPORT
from lorafinetune_stages.prepare.page import render

MAX_SAMPLE_CHARACTERS: Final = 4000

Pieces = Sequence[tuple[str, bool]]
"""The text of a row in pieces, each with whether it is learned."""


@dataclass
class SplitSummary:
    """Numbers of the rows of one split. lengths: tokens of every row before anything was cut off.
    answer_tokens: of all answers before that. lost_tokens: those of them that were cut off.

    blocks: rows of one length that were made of plain texts; None where rows stay what they are. left_tokens:
    those at the ends of texts that fill no block."""

    rows_by_dataset: Counter[int] = field(default_factory=Counter)
    tokens: int = 0
    learned_tokens: int = 0
    truncated: int = 0
    answer_tokens: int = 0
    lost_tokens: int = 0
    without_system: int = 0
    with_tools: int = 0
    blocks: int | None = None
    left_tokens: int = 0
    lengths: "array[int]" = field(default_factory=lambda: array("Q"))

    @property
    def rows(self) -> int:
        return self.rows_by_dataset.total()

    @property
    def examples(self) -> int:
        """What an optimizer step counts."""
        return self.rows if self.blocks is None else self.blocks

    def add(self, other: "SplitSummary") -> None:
        """Takes in the numbers of more of its rows, of which no blocks are made."""
        self.rows_by_dataset.update(other.rows_by_dataset)
        self.tokens += other.tokens
        self.learned_tokens += other.learned_tokens
        self.truncated += other.truncated
        self.answer_tokens += other.answer_tokens
        self.lost_tokens += other.lost_tokens
        self.without_system += other.without_system
        self.with_tools += other.with_tools
        self.lengths.extend(other.lengths)

    def longest(self, cutoff: int) -> tuple[int, ...]:
        """Tokens of the longest rows that a step may have, from the longest on."""
        if self.blocks is not None:
            return (cutoff,)
        return tuple(min(length, cutoff) for length in heapq.nlargest(KEPT_LENGTHS, self.lengths))


@dataclass(frozen=True)
class Report:
    """samples: rendered rows in pieces, each piece with whether it is learned. differences: renderings of
    the template and of the model's own, where they are not the same. repeated: rows of every dataset that
    equal an earlier one; deduplicated: whether these were left out."""

    template: str
    cutoff: int
    sources: Sequence[str]
    formats: Sequence[dict[str, FormatName]]
    findings: Findings
    repeated: Sequence[int]
    deduplicated: bool
    training: SplitSummary
    held_out: SplitSummary
    overlap: Overlap
    warnings: Sequence[str]
    differences: dict[str, str]
    samples: Sequence[Pieces]
    objective: Objective = "sft"

    def encode(self) -> dict[str, Any]:
        both = (self.training, self.held_out)
        return {
            "objective": self.objective,
            "template": self.template,
            "templateDifferences": self.differences,
            "datasets": [self._dataset(index) for index in range(len(self.sources))],
            "rows": self.training.rows,
            "evalRows": self.held_out.rows,
            "dropped": self.findings.bad,
            "badRows": self.findings.places,
            "repeatedRows": sum(self.repeated),
            "deduplicated": self.deduplicated,
            "overlap": {"rows": self.overlap.rows, "prompts": self.overlap.prompts},
            "tokens": self.training.tokens,
            "learnedTokens": self.training.learned_tokens,
            "evalTokens": self.held_out.tokens,
            "cutoffLength": self.cutoff,
            "truncatedRows": sum(split.truncated for split in both),
            "blocks": {"rows": self.training.blocks, "evalRows": self.held_out.blocks}
            | {"leftTokens": sum(split.left_tokens for split in both)},
            "answerTokens": sum(split.answer_tokens for split in both),
            "lostAnswerTokens": sum(split.lost_tokens for split in both),
            "rowsByLength": histogram(chain(*(split.lengths for split in both)), self.cutoff),
            "padding": padding(self.training.lengths, self.cutoff) if self.objective == "sft" else [],
            "warnings": list(self.warnings),
            "samples": [_sample(pieces) for pieces in self.samples],
        }

    def write(self, directory: Path) -> None:
        """Writes both forms into the directory."""
        encoded = self.encode()
        text = json.dumps(encoded, indent=1, ensure_ascii=False)
        (directory / REPORT).write_text(text, encoding="utf-8")
        (directory / PAGE).write_text(render(encoded), encoding="utf-8")

    def _dataset(self, index: int) -> dict[str, Any]:
        kinds = self.findings.kinds[index]
        return {
            "source": self.sources[index],
            "formats": self.formats[index],
            "rowsRead": self.findings.rows[index],
            "rows": self.training.rows_by_dataset[index],
            "evalRows": self.held_out.rows_by_dataset[index],
            "repeatedRows": self.repeated[index],
            "dropped": {str(kind): kinds[kind] for kind in sorted(kinds)},
        }


def _sample(pieces: Pieces) -> list[dict[str, Any]]:
    left = MAX_SAMPLE_CHARACTERS
    shown = []
    for text, learned in pieces:
        if left > 0:
            shown.append({"text": text[:left], "learned": learned})
        left -= len(text)
    return shown
