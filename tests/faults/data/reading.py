"""Reads a dataset as prepare does, up to the verdict over its rows."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorafinetune.api.datasets import Dataset
from lorafinetune.api.training import Objective
from lorafinetune_stages.prepare.corpus import Corpus
from lorafinetune_stages.prepare.findings import Findings
from lorafinetune_stages.prepare.merger import Merger
from lorafinetune_stages.prepare.texts import Texts
from lorafinetune_stages.store import ignore_progress
from stages.prepare_builders import listed_as

TEXTS = Texts(["<|im_start|>", "<|im_end|>", "<|user|>", "[gMASK]", "<s>"])


def read(root: Path, fields: Mapping[str, Any], objective: Objective = "sft") -> int:
    """The number of good rows of the files below `root`. fields: of the Dataset. Raises StageError."""
    dataset = Dataset.decode({"source": "s3://raw/a", **fields})
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    listed = listed_as(dataset, {str(path.relative_to(root)): path.stat().st_size for path in paths})
    findings = Findings([dataset])
    with tempfile.TemporaryDirectory() as scratch, Corpus(Path(scratch) / "rows") as corpus:
        (Path(scratch) / "0").symlink_to(root.resolve())
        Merger(corpus, findings, TEXTS, Path(scratch), ignore_progress, objective).merge([listed])
        findings.judge()
        return sum(corpus.counts)
