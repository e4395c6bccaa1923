"""The merged model, from the base and the adapter in the store to its manifest."""

import logging
import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorafinetune.api.exports import Merged
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import ExportArguments, place
from lorafinetune.contract.keys import model_place
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.base import INDEX, base_lineage, json_object, require
from lorafinetune_stages.export.card import merged_card
from lorafinetune_stages.export.layout import (
    SUFFIX,
    Shard,
    index_text,
    plan_shards,
    read_tensors,
    shard_size,
)
from lorafinetune_stages.export.selection import choose
from lorafinetune_stages.export.store_copy import copy_file
from lorafinetune_stages.imports import uncollected
from lorafinetune_stages.licences import README
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.manifest import Manifest, ManifestFile, commit_manifest
from lorafinetune_stages.store.transfer import download_tree

if TYPE_CHECKING:
    from lorafinetune_stages.export.streamed_merge import Base
    from lorafinetune_stages.export.weight_merge import Merge

log = logging.getLogger("lorafinetune")

WARNINGS: Final = "warnings"
"""Field of the manifest's result."""
MAX_WARNING: Final = 300


class ModelMerger:
    """One merge. trained: manifest of the training whose adapter is merged."""

    def __init__(self, arguments: ExportArguments, context: Context, trained: Manifest, key: str) -> None:
        self.arguments = arguments
        self.store = context.store
        self.context = context
        self.trained = trained
        self.key = key
        self.place = place("exports", key)
        self.base_place = model_place(arguments.model)
        self.base = require(context.store, self.base_place, "the base model")
        self.warnings: list[str] = []

    def run(self, wanted: Merged) -> Manifest:
        self._check()
        self.chosen = choose(self.store, self.trained, wanted.checkpoint)
        if self.chosen.step is not None:
            self._warn(f"of the checkpoint of step {self.chosen.step}, not of the training's result")
        source, merges = self._source()
        shards = plan_shards(source.tensors, shard_size(wanted.max_shard_size))
        self.context.progress.begin("merging", sum(tensor.bytes for tensor in source.tensors), "bytes")
        written = self._weights.write_shards(
            source, merges, shards, self.store, self.place, self.context.progress.advance
        )
        files = [*written, *self._copies(), *self._texts(shards)]
        lineage = {
            "model": base_lineage(self.arguments.model),
            "adapter": self.chosen.result.adapter.digest,
            **({} if self.chosen.step is None else {"checkpoint": self.chosen.step}),
            "training": self.trained.lineage,
        }
        result = {WARNINGS: self.warnings}
        return commit_manifest(self.store, self.place, "exports", self.key, files, lineage, result)

    def _check(self) -> None:
        config = self._json("config.json")
        if config is not None and "quantization_config" in config:
            raise StageError(
                Reason.MODEL_UNSUPPORTED,
                "export.merged: the base model is quantised, and a merge needs its full weights",
                "Leave `spec.export.merged` out, or start from the model that is not quantised.",
            )
        if self.trained.lineage.get("model", {}).get("digest") != self.base.digest:
            raise StageError(
                Reason.ARTIFACT_CORRUPT,
                f"{self.store.uri}/{place('trainings', self.arguments.trained)}: the adapter was trained on "
                f"another model than {self.base_place}",
            )

    def _source(self) -> tuple["Base", Mapping[str, "Merge"]]:
        """The weights that the result is made of, and how some of them are merged on the way."""
        with uncollected():
            weight_merge = import_module("lorafinetune_stages.export.weight_merge")
        names = [file.path for file in self.base.files]
        tensors = read_tensors(self.store, self.base_place, names, self._json(INDEX))
        base = self._weights.Base(self.store, self.base_place, self.base.files, tensors)
        directory = self.chosen.fetch(self.store, self.context.workdir)
        try:
            return base, weight_merge.Adapter(directory).merges(tensors)
        except weight_merge.NotStreamableError as problem:
            self._warn(f"{problem}: LLaMA-Factory merges it, with the whole model in memory")
            return self._merged_whole(directory), {}

    def _merged_whole(self, adapter: Path) -> "Base":
        with uncollected():
            in_memory_merge = import_module("lorafinetune_stages.export.in_memory_merge")
        scratch = DirectoryStore(self.context.workdir)
        base, output = scratch.root / "base", scratch.root / "whole"
        self.context.progress.begin("downloading the model", self.base.bytes, "bytes")
        download_tree(self.store, self.base_place, self.base, base, self.context.progress.advance)
        self.context.progress.begin("merging the whole model", None, "bytes")
        in_memory_merge.merge_whole(base, adapter, self.trained.lineage["config"]["template"], output)
        shutil.rmtree(base)
        files = in_memory_merge.manifest_files(output)
        index = scratch.read(f"{output.name}/{INDEX}")
        found = None if index is None else json_object(INDEX, index)
        tensors = read_tensors(scratch, output.name, [file.path for file in files], found)
        made: Base = self._weights.Base(scratch, output.name, files, tensors)
        return made

    def _warn(self, message: str) -> None:
        log.warning("export.merged: %s", message)
        self.warnings.append(f"export.merged: {message}"[:MAX_WARNING])

    @property
    def _weights(self) -> Any:
        return import_module("lorafinetune_stages.export.streamed_merge")

    def _copies(self) -> list[ManifestFile]:
        """Everything of the base but weights and card, byte for byte: tokenizer, template, licence."""
        kept = [
            file
            for file in self.base.files
            if not file.path.endswith(SUFFIX) and file.path not in (INDEX, README)
        ]
        for file in kept:
            copy_file(self.store, self.base_place, file, self.store, f"{self.place}/{file.path}")
        return kept

    def _texts(self, shards: list[Shard]) -> list[ManifestFile]:
        card = merged_card(
            self.arguments.model,
            self.chosen.result,
            self.trained.lineage.get("config", {}),
            self.store.read(f"{self.base_place}/{README}") or b"",
        )
        texts = {README: card} | ({INDEX: index_text(shards)} if len(shards) > 1 else {})
        return [self._write(name, text) for name, text in texts.items()]

    def _write(self, name: str, text: str) -> ManifestFile:
        stored = self.store.put(f"{self.place}/{name}", [text.encode()])
        return ManifestFile(path=name, size=stored.size, sha256=stored.sha256)

    def _json(self, name: str) -> Mapping[str, Any] | None:
        """A JSON object of the base; None where it has no such file."""
        data = self.store.read(f"{self.base_place}/{name}")
        return None if data is None else json_object(name, data)
