"""What a finished training leaves in the store: the adapter, and beside it the curve and the metrics,
which hold timings and so are no part of the adapter's digest.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lorafinetune.api.artifacts import Artifact
from lorafinetune.api.status import GpuSeconds, TrainingStatus
from lorafinetune.contract.arguments import ADAPTER, place
from lorafinetune.contract.outcome import TrainResult
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store.manifest import ManifestFile, commit_manifest, files_digest
from lorafinetune_stages.store.transfer import upload_tree


def commit_trained(
    context: Context,
    key: str,
    directory: Path,
    lineage: Mapping[str, Any],
    training: TrainingStatus,
    cost: Callable[[], GpuSeconds],
    resumes: int,
) -> TrainResult:
    """Uploads the directory, and makes it the output of the training. cost: until now, so that the upload is
    a part of it. Returns what counts: another writer's result if that was first."""
    where = place("trainings", key)
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    context.progress.begin("uploading the adapter", size, "bytes")
    files = upload_tree(context.store, directory, where, context.progress.advance)
    adapter = adapter_artifact(files, f"{context.store.uri}/{where}")
    result = TrainResult(key=key, adapter=adapter, training=training, gpu_seconds=cost(), resumes=resumes)
    manifest = commit_manifest(context.store, where, "trainings", key, files, lineage, result.encode())
    return TrainResult.decode(manifest.result or {})


def adapter_artifact(files: Iterable[ManifestFile], uri: str) -> Artifact:
    """The adapter among the files of the output at `uri`. Its digest is of paths inside its directory."""
    inside = tuple(
        file.model_copy(update={"path": file.path.removeprefix(f"{ADAPTER}/")})
        for file in files
        if file.path.startswith(f"{ADAPTER}/")
    )
    size = sum(file.size for file in inside)
    return Artifact(uri=f"{uri}/{ADAPTER}", digest=files_digest(inside), bytes=size)
