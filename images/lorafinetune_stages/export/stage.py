"""The export stage from its arguments to its manifest."""

import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.api.spec import Merged
from lorafinetune.api.status import Artifact
from lorafinetune.contract import keys
from lorafinetune.contract.arguments import ExportArguments, place
from lorafinetune.contract.outcome import ExportResult, StageError, TrainResult
from lorafinetune_stages.base import base_lineage, forbid_hubs, json_object, model_place, require
from lorafinetune_stages.export.card import README, merged_card
from lorafinetune_stages.export.copying import copy_file
from lorafinetune_stages.export.layout import (
    INDEX,
    SUFFIX,
    Shard,
    Tensor,
    index_text,
    plan_shards,
    read_header,
    shard_size,
    weight_files,
)
from lorafinetune_stages.export.publishing import publish, tellable
from lorafinetune_stages.hubs import Pause
from lorafinetune_stages.hubs.targets import check_targets
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store.manifest import Manifest, ManifestFile, commit_manifest, find_output
from lorafinetune_stages.store.transfer import download_tree

ADAPTER: Final = "adapter/"


def run(arguments: ExportArguments, context: Context, pause: Pause | None = None) -> ExportResult:
    """Merges the adapter, or finds the merged model in the store; then publishes it where it is missing.

    pause: replaces waiting between attempts. Raises StageError(ModelUnsupported) where the adapter can't be
    merged, and StageError for whatever else a person can mend.
    """
    forbid_hubs()
    trained = require(context.store, place("trainings", arguments.trained), "the training")
    reads = {"trained": arguments.trained, "model": arguments.model.digest}
    key = keys.key("export", {"export": arguments.export.encode()}, reads)
    if arguments.export.merged is None:
        return ExportResult(key=key)
    where = place("exports", key)
    found = find_output(context.store, where)
    if found is None:
        check_targets(arguments, arguments.export.publish, pause or time.sleep)
    manifest = found or _Export(arguments, context, trained, key).run(arguments.export.merged)
    published = tellable(publish(arguments, context, manifest, where, pause))
    merged = Artifact(uri=f"{context.store.uri}/{where}", digest=manifest.digest, bytes=manifest.bytes)
    return ExportResult(key=key, merged=merged, published=published, cache_hit=found is not None)


class _Export:
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

    def run(self, wanted: Merged) -> Manifest:
        self._check()
        tensors = self._tensors()
        shards = plan_shards(tensors, shard_size(wanted.max_shard_size))
        self.context.progress.begin("merging", sum(tensor.bytes for tensor in tensors), "bytes")
        files = [*self._merge(shards), *self._copies(), *self._texts(shards)]
        lineage = {
            "model": base_lineage(self.arguments.model),
            "adapter": self._training.adapter.digest,
            "training": self.trained.lineage,
        }
        return commit_manifest(self.store, self.place, "exports", self.key, files, lineage, None)

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

    @property
    def _training(self) -> TrainResult:
        return TrainResult.decode(self.trained.result or {})

    def _tensors(self) -> list[Tensor]:
        """The tensors of the base, in the order in which its files hold them."""
        names = [file.path for file in self.base.files]
        tensors = []
        for name in weight_files(names, self._json(INDEX)):
            with self.store.open(f"{self.base_place}/{name}") as stream:
                tensors += read_header(stream, name)
        return tensors

    def _merge(self, shards: list[Shard]) -> list[ManifestFile]:
        merging = import_module("lorafinetune_stages.export.merging")
        weights = import_module("lorafinetune_stages.export.weights")
        scratch = self.context.workdir
        own = tuple(file for file in self.trained.files if file.path.startswith(ADAPTER))
        subset = self.trained.model_copy(update={"files": own})
        download_tree(self.store, place("trainings", self.arguments.trained), subset, scratch)
        base = weights.Base(self.store, self.base_place, self.base, scratch / "base")
        adapter = merging.Adapter(scratch / ADAPTER)
        merged = weights.merge_shards(
            base, adapter, shards, self.store, self.place, scratch, self.context.progress.advance
        )
        return list(merged)

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
            self._training,
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
