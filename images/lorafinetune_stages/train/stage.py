"""The train stage from its arguments to its manifest."""

import os
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lorafinetune.api.status import Artifact, GpuSeconds
from lorafinetune.contract.arguments import TrainArguments, place
from lorafinetune.contract.outcome import TrainResult
from lorafinetune_stages.base import forbid_hubs
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store.manifest import (
    Manifest,
    ManifestFile,
    commit_manifest,
    files_digest,
    find_output,
)
from lorafinetune_stages.store.transfer import upload_tree
from lorafinetune_stages.train import config, device
from lorafinetune_stages.train.adapter import write_adapter
from lorafinetune_stages.train.card import adapter_card
from lorafinetune_stages.train.checkpoints import Checkpoint, Checkpoints
from lorafinetune_stages.train.fit import Fit, fit
from lorafinetune_stages.train.inputs import Inputs, fetch_inputs, find_inputs
from lorafinetune_stages.train.lineage import lineage
from lorafinetune_stages.train.meter import Meter
from lorafinetune_stages.train.plot import draw_loss
from lorafinetune_stages.train.stopping import Stop

if TYPE_CHECKING:
    from lorafinetune_stages.train.callback import Watch

ADAPTER = "adapter"
"""Directory of the adapter below the training's place. Beside it lie the metrics, which hold timings."""


def run(arguments: TrainArguments, context: Context) -> TrainResult:
    """Trains, or finds the training in the store.

    Raises StageError(Preempted) after a checkpoint where it is asked to stop, and StageError for
    whatever a person can mend.
    """
    if found := find_output(context.store, place("trainings", arguments.key)):
        return _result(found, cache_hit=True)
    with Stop() as stop:
        return _Training(arguments, context, stop).run()


class _Training:
    """One attempt at one training."""

    def __init__(self, arguments: TrainArguments, context: Context, stop: Stop) -> None:
        self.arguments = arguments
        self.context = context
        self.stop = stop
        self.meter = Meter(arguments.gpus)
        self.place = place("trainings", arguments.key)
        self.output = context.workdir / "output"

    def run(self) -> TrainResult:
        inputs = find_inputs(self.arguments, self.context)
        _quiet()
        device.claim(self.arguments)
        launch = self._fetch(inputs)
        portable = config.portable(self.arguments.config, inputs.facts.template)
        cut = self._fit(launch, inputs)
        watch = self._train(launch, inputs, portable, cut)
        facts = lineage(
            self.arguments, inputs, portable, cut, device.hardware(self.arguments.gpus), watch.resumes
        )
        return self._finish(inputs, portable, facts, watch)

    def _fetch(self, inputs: Inputs) -> Any:
        """Downloads the inputs while LLaMA-Factory is imported, which takes ten seconds and more."""
        progress = self.context.progress
        progress.begin("downloading the model and the dataset", inputs.bytes, "bytes")

        def advance(count: int) -> None:
            self.stop.check_before_first_step()
            progress.advance(count)

        with ThreadPoolExecutor(1) as pool:
            fetched = pool.submit(fetch_inputs, self.arguments, self.context, inputs, advance)
            launch = import_module("lorafinetune_stages.train.launch")
            fetched.result()
        return launch

    def _fit(self, launch: Any, inputs: Inputs) -> Fit:
        arguments = self.arguments
        shape = launch.read_shape(inputs.model_directory, arguments.model.bytes)
        free = device.free_bytes(arguments.gpus)
        return fit(
            arguments.training.batch_size, arguments.gpus, arguments.training.cutoff_length, shape, free
        )

    def _train(self, launch: Any, inputs: Inputs, portable: dict[str, Any], cut: Fit) -> "Watch":
        arguments = self.arguments
        checkpoints = Checkpoints(
            self.context.store,
            self.place,
            arguments.key,
            arguments.model,
            arguments.training.checkpoint.keep,
        )
        resumed = checkpoints.newest(self.context.workdir / "resume")
        self.meter.before = _cost_so_far(resumed)
        watch: Watch = launch.Watch(
            arguments,
            inputs.dataset_directory,
            checkpoints,
            resumed,
            self.meter,
            self.stop,
            self.context.progress,
        )
        local = config.local(
            portable,
            cut,
            arguments.gpus,
            inputs.model_directory,
            inputs.dataset_directory,
            self.output,
            resumed.directory if resumed else None,
        )
        self.context.progress.begin("loading the model", None, "steps")
        launch.train(local, watch, self.stop)
        return watch

    def _finish(
        self, inputs: Inputs, portable: dict[str, Any], facts: dict[str, Any], watch: "Watch"
    ) -> TrainResult:
        """Uploads what the training came to; its manifest, written last, makes it exist."""
        arguments = self.arguments
        kept = self.context.workdir / "kept"
        card = adapter_card(arguments.model, inputs.facts.dataset, portable, arguments.training.batch_size)
        write_adapter(self.output, kept / ADAPTER, arguments.model, portable, card)
        (kept / "metrics.jsonl").write_text(watch.history.to_json_lines())
        draw_loss(watch.history.rows, kept / "loss.png")
        files = upload_tree(self.context.store, kept, self.place)
        result = TrainResult(
            key=arguments.key,
            adapter=self._adapter(files),
            training=watch.status,
            gpu_seconds=self.meter.gpu_seconds(),
        )
        manifest = commit_manifest(
            self.context.store, self.place, "trainings", arguments.key, files, facts, result.encode()
        )
        return _result(manifest, cache_hit=False)

    def _adapter(self, files: tuple[ManifestFile, ...]) -> Artifact:
        inside = tuple(
            file.model_copy(update={"path": file.path.removeprefix(f"{ADAPTER}/")})
            for file in files
            if file.path.startswith(f"{ADAPTER}/")
        )
        return Artifact(
            uri=f"{self.context.store.uri}/{self.place}/{ADAPTER}",
            digest=files_digest(inside),
            bytes=sum(file.size for file in inside),
        )


def _cost_so_far(resumed: Checkpoint | None) -> GpuSeconds:
    return GpuSeconds.decode(resumed.notes.get("gpuSeconds", {})) if resumed else GpuSeconds()


def _result(manifest: Manifest, cache_hit: bool) -> TrainResult:
    return TrainResult.decode(manifest.result or {}).model_copy(update={"cache_hit": cache_hit})


def _quiet() -> None:
    """No hub, and no more than warnings from LLaMA-Factory; both are read when it is imported."""
    forbid_hubs()
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARNING")
