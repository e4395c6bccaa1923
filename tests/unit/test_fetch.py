"""Bringing an output out of the store: whole, checked, or not at all."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders import merged, resource, sha
from commands import Command, commander
from lorafinetune.api.artifacts import Artifact, Artifacts
from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import LoRAFineTuneStatus
from lorafinetune.cli.choices import OutputKind
from lorafinetune.cli.document import read_resource
from lorafinetune.cli.fetch import bring, fetch
from lorafinetune.cli.run import keep
from lorafinetune.cli.store import StoreLocation
from lorafinetune.contract.arguments import STORE_DIRECTORY_VARIABLE
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.manifest import ManifestFile, commit_manifest, files_digest

OUTPUTS = {
    f"exports/{sha('merged')}": {"config.json": b"{}", "model.safetensors": b"weights"},
    f"trainings/{sha('trained')}": {"adapter/adapter_model.safetensors": b"small", "loss.png": b"png"},
}
URI = "s3://bucket/runs"


@pytest.fixture(autouse=True)
def no_store_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undoes what a fetch tells the store by the environment."""
    monkeypatch.setenv(STORE_DIRECTORY_VARIABLE, "")


@pytest.fixture
def lorafinetune(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commander(monkeypatch, capsys)


def a_store(folder: Path, outputs: Mapping[str, Mapping[str, bytes]] = OUTPUTS) -> Path:
    """A directory in place of S3, with a merged model and a training."""
    store = DirectoryStore(folder / "bucket" / "runs", URI)
    for place, files in outputs.items():
        put = [(name, store.put(f"{place}/{name}", [body])) for name, body in files.items()]
        listed = [ManifestFile(path=name, size=it.size, sha256=it.sha256) for name, it in put]
        kind, _, key = place.partition("/")
        commit_manifest(store, place, kind, key, listed, {}, None)
    return folder


def a_run(spec: dict[str, Any] | None = None) -> LoRAFineTune:
    def at(place: str, files: dict[str, bytes]) -> Artifact:
        return Artifact(uri=f"{URI}/{place}", digest=digest_of(files), bytes=sum(map(len, files.values())))

    merged_model, training = OUTPUTS
    adapter = {"adapter_model.safetensors": b"small"}
    artifacts = Artifacts(
        merged=at(merged_model, OUTPUTS[merged_model]), adapter=at(f"{training}/adapter", adapter)
    )
    made = resource(merged({"training": {"learningRate": "1e-3"}}, spec or {}))
    return made.model_copy(update={"status": LoRAFineTuneStatus(artifacts=artifacts)})


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        pytest.param(OutputKind.MERGED, {"config.json": b"{}", "model.safetensors": b"weights"}, id="merged"),
        pytest.param(OutputKind.ADAPTER, {"adapter_model.safetensors": b"small"}, id="the adapter alone"),
    ],
)
def test_an_output_is_fetched(what: OutputKind, expected: dict[str, bytes], tmp_path: Path) -> None:
    fetch(a_run(), what, tmp_path / "here", StoreLocation(a_store(tmp_path / "store"), "", tmp_path))
    assert contents(tmp_path / "here") == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "store"]


PARTS = {
    "the merged model": (OutputKind.MERGED, f"exports/{sha('merged')}", {"config.json", "model.safetensors"}),
    "the adapter alone": (
        OutputKind.ADAPTER,
        f"trainings/{sha('trained')}/adapter",
        {"adapter_model.safetensors"},
    ),
}


@pytest.mark.parametrize("form", ["json", "yaml"])
@pytest.mark.parametrize("sentence", PARTS)
def test_a_program_is_told_what_was_fetched(
    sentence: str, form: str, lorafinetune: Command, tmp_path: Path
) -> None:
    what, place, names = PARTS[sentence]
    a_store(tmp_path / "store")
    keep(a_run(), tmp_path / "run.yaml")
    options = ("--store", tmp_path / "store", "--to", tmp_path / "here", "-o", form)
    code, out, err = lorafinetune("fetch", tmp_path / "run.yaml", "--what", what, *options)
    told = yaml.safe_load(out)
    assert (code, err) == (0, "")
    assert {file["path"]: (file["bytes"], file["sha256"]) for file in told.pop("files")} == {
        name: (len(body), sha256(body).hexdigest()) for name, body in contents(tmp_path / "here").items()
    }
    assert contents(tmp_path / "here").keys() == names
    assert told == {
        "namespace": "team-a",
        "run": "tune",
        "what": what.value,
        "uri": f"{URI}/{place}",
        "directory": str(tmp_path / "here"),
        "digest": digest_of(contents(tmp_path / "here")),
        "bytes": sum(map(len, contents(tmp_path / "here").values())),
    }


def digest_of(contained: dict[str, bytes]) -> str:
    """As the status has it of an output with these files."""
    files = ((name, len(body), sha256(body).hexdigest()) for name, body in contained.items())
    return files_digest(
        tuple(ManifestFile(path=name, size=size, sha256=told) for name, size, told in sorted(files))
    )


def test_who_interrupts_is_told_that_nothing_is_kept(
    lorafinetune: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    a_store(tmp_path / "store")
    keep(a_run(), tmp_path / "run.yaml")
    monkeypatch.setattr(DirectoryStore, "download", interrupted)
    options = ("--store", tmp_path / "store", "--to", tmp_path / "here")
    code, out, err = lorafinetune("fetch", tmp_path / "run.yaml", *options)
    told = f"interrupted: nothing of it is kept in {tmp_path}. The same command fetches all of it.\n"
    assert (code, out, err) == (130, "", told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.yaml", "store"]


def damage(store: Path) -> None:
    next(store.rglob("model.safetensors")).write_bytes(b"WEIGHTS")


def lose(store: Path) -> None:
    for path in store.rglob("manifest.json"):
        path.unlink()


@pytest.mark.parametrize("mishap", [damage, lose], ids=["damaged", "lost"])
def test_an_output_that_is_not_whole_is_not_fetched(mishap: Any, tmp_path: Path) -> None:
    store = a_store(tmp_path / "store")
    mishap(store)
    with pytest.raises(StageError) as refused:
        fetch(a_run(), OutputKind.MERGED, tmp_path / "here", StoreLocation(store, "", tmp_path))
    assert refused.value.reason is Reason.ARTIFACT_CORRUPT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


REMADE = {place: {name: body[::-1] for name, body in files.items()} for place, files in OUTPUTS.items()}
"""Other outputs of the same keys, each whole."""


@pytest.mark.parametrize("sentence", PARTS)
def test_an_output_that_is_not_the_runs_any_more_is_not_fetched(
    sentence: str, lorafinetune: Command, tmp_path: Path
) -> None:
    what, place, _ = PARTS[sentence]
    a_store(tmp_path / "store", REMADE)
    keep(a_run(), tmp_path / "run.yaml")
    options = ("--store", tmp_path / "store", "--to", tmp_path / "here")
    code, out, err = lorafinetune("fetch", tmp_path / "run.yaml", "--what", what, *options)
    begins = f"ArtifactCorrupt: {URI}/{place} is not what tune made: its digest is "
    hint = (
        "It was replaced or made anew. Take the status of the run that made it, or delete this run and apply "
        "it again: it finds what is there.\n"
    )
    assert (code, out, err.startswith(begins), err.endswith(hint)) == (64, "", True, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.yaml", "store"]


def test_what_a_training_has_beside_its_adapter_is_none_of_the_adapter(tmp_path: Path) -> None:
    training = next(place for place in OUTPUTS if place.startswith("trainings/"))
    drawn_anew = {training: OUTPUTS[training] | {"loss.png": b"other"}}
    where = StoreLocation(a_store(tmp_path / "store", drawn_anew), "", tmp_path)
    fetch(a_run(), OutputKind.ADAPTER, tmp_path / "here", where)
    assert contents(tmp_path / "here") == {"adapter_model.safetensors": b"small"}


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with pytest.raises(StageError, match="exists already"):
        fetch(
            a_run(),
            OutputKind.MERGED,
            tmp_path / "here",
            StoreLocation(a_store(tmp_path / "store"), "", tmp_path),
        )


def test_a_training_without_an_adapter_is_none(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store", URI)
    manifest = commit_manifest(store, "trainings/t", "trainings", sha("trained"), [], {}, None)
    with pytest.raises(
        StageError, match=r"the manifest of s3://bucket/runs/trainings/t lists no adapter"
    ) as refused:
        bring(store, "trainings/t", manifest, tmp_path / "here", "adapter")
    assert refused.value.reason is Reason.ARTIFACT_CORRUPT


HINTS = {
    "without a status it is asked for": (None, "Give the resource with its status: `kubectl get lft NAME"),
    "with one, the output is still to come": (
        LoRAFineTuneStatus(stage="Failed"),
        "It is there once its stage",
    ),
}


@pytest.mark.parametrize("sentence", HINTS)
def test_a_run_without_the_output(sentence: str) -> None:
    status, hint = HINTS[sentence]
    run = resource().model_copy(update={"status": status})
    with pytest.raises(StageError, match="tells of no merged output") as refused:
        fetch(run, OutputKind.MERGED, Path("never"), StoreLocation(None, "", Path("none")))
    assert refused.value.hint.startswith(hint)


def test_a_secret_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="Secret s3 has no key AWS_ACCESS_KEY_ID"):
        fetch(a_run(), OutputKind.MERGED, tmp_path / "here", StoreLocation(None, "", tmp_path))


def test_what_a_run_leaves_behind_can_be_read_again(tmp_path: Path) -> None:
    keep(a_run(), tmp_path / "resource.yaml")
    assert read_resource(tmp_path / "resource.yaml") == a_run()
