"""A store with a base model and datasets in it, as the download leaves them, and prepare's arguments."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorafinetune.api.datasets import Dataset
from lorafinetune.api.exports import Publish
from lorafinetune.api.pods import Gpu
from lorafinetune.api.sources import BaseModelSource, Storage
from lorafinetune.api.spec import LoRAFineTuneSpec
from lorafinetune.api.status import ModelStatus
from lorafinetune.api.training import Training
from lorafinetune.contract import keys
from lorafinetune.contract.arguments import Kind, PrepareArguments, place
from lorafinetune.contract.outcome import PrepareResult
from lorafinetune.core.training import render
from lorafinetune_stages.prepare import run
from lorafinetune_stages.prepare.conversation import Conversation
from lorafinetune_stages.prepare.corpus import Corpus
from lorafinetune_stages.prepare.findings import Findings
from lorafinetune_stages.prepare.inputs import DatasetFiles, read_inputs
from lorafinetune_stages.prepare.merger import Merger
from lorafinetune_stages.prepare.texts import Texts
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store import ignore_progress
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.manifest import Manifest, ManifestFile, commit_manifest, read_manifest
from lorafinetune_stages.store.transfer import download_tree, upload_tree

EMOLLM = Path(__file__).parents[2] / "samples" / "data" / "emollm"
MODEL = "hf://example/tiny"
COMMIT = "c0ffee"
CHAT_TEMPLATE = "<|im_start|>user named SmolLM"
"""Enough for the template to be inferred."""
TINY_MODEL = {
    "config.json": json.dumps({"model_type": "llama"}).encode(),
    "tokenizer.json": json.dumps(
        {"added_tokens": [{"content": "<|im_end|>", "special": True}, {"content": "<b>", "special": False}]}
    ).encode(),
    "tokenizer_config.json": b"{}",
    "chat_template.jinja": CHAT_TEMPLATE.encode(),
    "model.safetensors": b"weights",
}
"""What prepare reads before it needs the tokenizer itself."""

Rows = Sequence[Any]


NO_DIGEST = "0" * 64


def json_lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def alpaca(instruction: str, output: str, **more: Any) -> dict[str, Any]:
    return {"instruction": instruction, "input": "", "output": output, **more}


def listed_as(dataset: Dataset, sizes: Mapping[str, int]) -> DatasetFiles:
    """A dataset as if it had been downloaded. sizes: of its files, by name."""
    files = tuple(ManifestFile(path=name, size=size, sha256=NO_DIGEST) for name, size in sizes.items())
    manifest = Manifest(
        kind="datasets",
        key=NO_DIGEST,
        digest=NO_DIGEST,
        files=files,
        lineage={},
        created="2026-01-01T00:00:00Z",
    )
    return DatasetFiles(dataset, "datasets/a", manifest, files)


@dataclass
class Bench:
    """One store, and what was put into it."""

    root: Path
    files: Mapping[str, bytes] = field(default_factory=lambda: TINY_MODEL)
    datasets: list[Dataset] = field(default_factory=list)
    dataset_keys: list[str] = field(default_factory=list)
    gpu: Gpu = field(default_factory=Gpu)
    scratch: str = "50Gi"
    publish: tuple[Publish, ...] = ()

    def __post_init__(self) -> None:
        self.root.mkdir(exist_ok=True)
        self.store = DirectoryStore(self.root / "store")
        manifest = self.put("models", keys.source_key(MODEL, COMMIT), self.files)
        self.model = ModelStatus(source=MODEL, revision=COMMIT, digest=manifest.digest, bytes=manifest.bytes)

    def put(
        self, kind: Kind, key: str, files: Mapping[str, bytes], result: Mapping[str, Any] | None = None
    ) -> Manifest:
        """Makes a complete output of these files."""
        with tempfile.TemporaryDirectory(dir=self.root) as directory:
            for name, content in files.items():
                path = Path(directory, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            uploaded = upload_tree(self.store, Path(directory), place(kind, key))
        return commit_manifest(self.store, place(kind, key), kind, key, uploaded, {}, result)

    def add(self, files: bytes | Mapping[str, bytes], name: str = "rows.jsonl", /, **fields: Any) -> "Bench":
        """Adds a dataset: one file of that name, or several. fields: of the Dataset, by Python names."""
        source = f"s3://raw/{len(self.datasets)}/{name}"
        key = keys.source_key(source, COMMIT)
        self.put("datasets", key, files if isinstance(files, Mapping) else {name: files})
        self.datasets.append(Dataset(source=source, **fields))
        self.dataset_keys.append(key)
        return self

    def arguments(self, template: str | None = None, **training: Any) -> PrepareArguments:
        """training: fields by their Python names; one epoch by default."""
        fields = training if "max_steps" in training else {"epochs": "1"} | training
        spec = LoRAFineTuneSpec(
            model=BaseModelSource(source=MODEL, template=template),
            datasets=tuple(self.datasets),
            training=Training(**fields),
            storage=Storage(uri=self.store.uri),
        )
        return PrepareArguments(
            storage=spec.storage,
            model=self.model,
            template=template,
            datasets=spec.datasets,
            dataset_keys=tuple(self.dataset_keys),
            training=spec.training,
            config=render(spec),
            gpu=self.gpu,
            scratch=self.scratch,
            publish=self.publish,
        )

    def conversations(self) -> list[Conversation]:
        """All rows of all datasets, as they are read and merged. None of them may be bad."""
        inputs, findings = read_inputs(self.arguments(), self.store), Findings(self.datasets)
        with tempfile.TemporaryDirectory(dir=self.root) as directory:
            scratch = Path(directory)
            for index, dataset in enumerate(inputs.datasets):
                download_tree(self.store, dataset.place, dataset.manifest, scratch / str(index))
            with Corpus(scratch / "rows") as corpus:
                Merger(corpus, findings, Texts({"<|im_end|>"}), scratch, ignore_progress).merge(
                    inputs.datasets
                )
                assert findings.bad == 0
                return [conversation for _, conversation in corpus.read(range(len(corpus)))]

    def run(self, template: str | None = None, **training: Any) -> PrepareResult:
        return self.report_to(Reporter("prepare", None), template, **training)

    def report_to(self, reporter: Reporter, template: str | None = None, **training: Any) -> PrepareResult:
        """The same with progress that somebody looks at."""
        with tempfile.TemporaryDirectory(dir=self.root) as workdir:
            context = Context(self.store, Path(workdir), reporter)
            return run(self.arguments(template, **training), context)

    def manifest(self, key: str) -> Manifest:
        """The manifest of a prepared dataset."""
        manifest = read_manifest(self.store, place("prepared", key))
        assert manifest is not None
        return manifest

    def report(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.store.read(f"{place('prepared', key)}/report.json") or b"")
        return found
