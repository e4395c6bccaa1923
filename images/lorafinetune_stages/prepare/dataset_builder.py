"""The part of prepare that needs LLaMA-Factory: the model and the template are tried, tokens are made.

Importing this module imports torch, transformers and LLaMA-Factory, which takes long.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from lorafinetune.api.status import DatasetStatus
from lorafinetune.contract.arguments import PrepareArguments
from lorafinetune.contract.names import source_name
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.corpus import Corpus
from lorafinetune_stages.prepare.empty_datasets import RowUsage, too_short
from lorafinetune_stages.prepare.examples import find_examples
from lorafinetune_stages.prepare.findings import Findings
from lorafinetune_stages.prepare.fingerprints import Overlap
from lorafinetune_stages.prepare.identity import EXAMINED_ROWS, contradiction
from lorafinetune_stages.prepare.inputs import PrepareInputs
from lorafinetune_stages.prepare.objectives import fit_builder
from lorafinetune_stages.prepare.output import (
    DATASET,
    HELD_OUT,
    TRAIN,
    Prepared,
    commit_prepared,
    lineage,
    shorten,
)
from lorafinetune_stages.prepare.preflight import Toolkit
from lorafinetune_stages.prepare.report import Pieces, Report, SplitSummary
from lorafinetune_stages.prepare.selection import Rows
from lorafinetune_stages.prepare.splits import Splits
from lorafinetune_stages.prepare.template_comparison import TemplateFit, default_prompt
from lorafinetune_stages.runtime import Context

log = logging.getLogger("lorafinetune")

FINGERPRINT_LENGTH: Final = 16


@dataclass(frozen=True)
class DatasetBuilder:
    """Makes the prepared dataset out of rows that were read."""

    arguments: PrepareArguments
    inputs: PrepareInputs
    corpus: Corpus
    findings: Findings
    rows: Rows
    context: Context

    def make(self, toolkit: Toolkit) -> Prepared:
        """Raises StageError."""
        progress, workdir = self.context.progress, self.context.workdir
        builder, fit = fit_builder(
            self.arguments,
            self.inputs.template,
            toolkit,
            self.corpus,
            self.findings,
            find_examples(self.corpus, self.rows),
            workdir,
            progress.advance,
        )
        output = workdir / "output"
        output.mkdir()
        train, held_out = self._tokenise(builder, output)
        report = self._report(builder, fit, train, held_out)
        report.write(output)
        for warning in report.warnings:
            log.warning("%s", warning)
        prepared = self._prepared(fit, train, held_out, report.warnings)
        return commit_prepared(
            output, prepared, self.inputs, lineage(self.inputs, self.arguments), self.context
        )

    def _tokenise(self, builder: Splits, output: Path) -> tuple[SplitSummary, SplitSummary]:
        progress = self.context.progress
        progress.begin("tokenising", len(self.rows.train) + len(self.rows.held_out), "rows")
        self.findings.begin_chosen(self._chosen)
        train = builder.write_split(TRAIN, self.rows.train)
        held_out = builder.write_split(HELD_OUT, self.rows.held_out)
        self.findings.judge()
        self._check_rows(train, held_out)
        names = (TRAIN, HELD_OUT) if held_out.examples else (TRAIN,)
        builder.save(names, output / DATASET, self.inputs.key[:FINGERPRINT_LENGTH])
        return train, held_out

    def _check_rows(self, train: SplitSummary, held_out: SplitSummary) -> None:
        training = self.arguments.training
        if not train.examples:
            raise self._nothing_left(train, "train on")
        if training.evaluation and not held_out.examples:
            raise self._nothing_left(held_out, "evaluate on")

    def _nothing_left(self, split: SplitSummary, purpose: str) -> StageError:
        if split.rows:
            return too_short(split, purpose, self.arguments.training.cutoff_length)
        return self.findings.none_left(purpose)

    def _prepared(
        self, fit: TemplateFit, train: SplitSummary, held_out: SplitSummary, warnings: Sequence[str]
    ) -> Prepared:
        cutoff = self.arguments.training.cutoff_length
        status = DatasetStatus(
            rows=train.examples,
            eval_rows=held_out.examples,
            dropped=self.findings.bad,
            tokens=train.tokens,
            learned_tokens=train.learned_tokens,
            truncated=train.truncated + held_out.truncated,
            repeated=sum(self._repeated),
            overlap=self._overlap.rows,
            formats=tuple(", ".join(sorted({*formats.values()})) for formats in self.corpus.formats),
            digest=self.inputs.key,
            report="",
        )
        return Prepared(
            template=self.inputs.template,
            dataset=status,
            warnings=shorten(warnings),
            template_differs=fit.differs,
            longest=train.longest(cutoff),
            eval_tokens=held_out.tokens,
        )

    def _report(
        self, builder: Splits, fit: TemplateFit, train: SplitSummary, held_out: SplitSummary
    ) -> Report:
        return Report(
            template=self.inputs.template,
            cutoff=self.arguments.training.cutoff_length,
            sources=[source_name(dataset.source) for dataset in self.arguments.datasets],
            formats=self.corpus.formats,
            findings=self.findings,
            repeated=self._repeated,
            deduplicated=self.arguments.training.deduplicate is not None,
            training=train,
            held_out=held_out,
            overlap=self._overlap,
            warnings=[
                *self._of_the_choice(train, held_out),
                *builder.warnings(),
                *self._of_the_template(fit, train),
                *self._of_the_answers(train, held_out),
            ],
            differences=fit.differences,
            samples=self._samples(builder),
            objective=self.arguments.training.objective,
        )

    @cached_property
    def _chosen(self) -> list[int]:
        """How many rows of every dataset are to be used."""
        both = (self.corpus.count_by_dataset(rows) for rows in (self.rows.train, self.rows.held_out))
        return [sum(counts) for counts in zip(*both, strict=True)]

    @cached_property
    def _repeated(self) -> list[int]:
        """Rows of every dataset that equal an earlier one of any."""
        found = Counter(map(self.corpus.dataset_of, self.corpus.fingerprints.repeated()))
        return [found[index] for index in range(len(self.corpus.counts))]

    @cached_property
    def _overlap(self) -> Overlap:
        return self.corpus.fingerprints.overlap(self._used(self.rows.train), self._used(self.rows.held_out))

    def _used(self, rows: Sequence[int]) -> Sequence[int]:
        """Those of chosen rows that are not bad."""
        left_out = self.findings.left_out
        return [row for row in rows if row not in left_out] if left_out else rows

    def _samples(self, builder: Splits) -> list[Pieces]:
        """The first, the middle and the last row that is trained on."""
        rows = self._used(self.rows.train)
        chosen = sorted({0, len(rows) // 2, len(rows) - 1})
        return builder.samples([rows[index] for index in chosen])

    def _of_the_template(self, fit: TemplateFit, train: SplitSummary) -> Iterator[str]:
        yield from fit.warnings
        if fit.default_system and train.without_system:
            yield f"{train.without_system} training rows {fit.default_system}"
        if train.without_system and (warning := self._contradiction()):
            yield warning
        if fit.dated and train.with_tools:
            yield (
                f"{train.with_tools} training rows have tools, and {self.inputs.template} writes the day of "
                "their preparation into them: on another day they would be other rows"
            )

    def _of_the_choice(self, train: SplitSummary, held_out: SplitSummary) -> Iterator[str]:
        """Before all others, which may fill up the room in the status: these have it for sure."""
        training, counts = self.arguments.training, self.corpus.counts
        repeated = self._repeated if training.deduplicate else [0] * len(counts)
        there = [count - left_out for count, left_out in zip(counts, repeated, strict=True)]
        used = train.rows_by_dataset + held_out.rows_by_dataset
        usage = RowUsage(there, self._chosen, [used[index] for index in range(len(counts))])
        yield from usage.told_unused(training)
        if self.findings.bad:
            first = self.findings.places[0]
            yield f"{self.findings.bad} of {sum(self.findings.rows)} rows were left out as bad, first {first}"
        if self._overlap.prompts:
            yield self._told_overlap(held_out)
        yield from self.rows.warnings

    def _of_the_answers(self, train: SplitSummary, held_out: SplitSummary) -> Iterator[str]:
        if same := [f"datasets[{i}]" for i in self.corpus.monotonous()]:
            yield f"all answers are equal in {', '.join(same)}"
        if truncated := train.truncated + held_out.truncated:
            yield self._told_cut(truncated, train, held_out)

    def _contradiction(self) -> str:
        template = self.inputs.template
        some = self.corpus.read(self.rows.train[:EXAMINED_ROWS])
        return contradiction(template, default_prompt(template), (row.without_rejected() for _, row in some))

    def _told_overlap(self, held_out: SplitSummary) -> str:
        evaluation, overlap = self.arguments.training.evaluation, self._overlap
        if self.arguments.training.objective == "pt":
            return f"of {held_out.rows} held-out texts {overlap.rows} are trained on too"
        split = evaluation is not None and evaluation.dataset is None
        return (
            f"of {held_out.rows} held-out rows {overlap.rows} are trained on too, and {overlap.prompts} have "
            "a prompt that is" + (": see training.evaluation.groupBy" if split else "")
        )

    def _told_cut(self, rows: int, train: SplitSummary, held_out: SplitSummary) -> str:
        longest = max(max(lengths, default=0) for lengths in (train.lengths, held_out.lengths))
        lost = train.lost_tokens + held_out.lost_tokens
        return (
            f"{rows} of {train.rows + held_out.rows} rows are cut at training.cutoffLength "
            f"{self.arguments.training.cutoff_length}, and lose {lost} of "
            f"{train.answer_tokens + held_out.answer_tokens} tokens of all answers; "
            f"the longest has {longest} tokens"
        )
