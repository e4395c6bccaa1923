"""Copies of the merged model in buckets, each a directory that stands in for one."""

import json
from pathlib import Path

import pytest

from lorafinetune.api.exports import Export
from lorafinetune.contract.arguments import STORE_DIRECTORY_VARIABLE, place
from lorafinetune_stages.export import store_copy
from lorafinetune_stages.store.manifest import ManifestFile, files_digest
from lorafinetune_stages.store.seal import seal
from stages.train_builders import World, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

EXPORT = Export.decode({"merged": {}, "publish": [{"to": "s3://models/team/tuned"}]})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = world(tmp_path_factory.mktemp("published"), epochs=None, maxSteps=1)
    made.train()
    return made


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `s3://models/team/tuned` is."""
    monkeypatch.setenv(STORE_DIRECTORY_VARIABLE, str(tmp_path))
    (tmp_path / "models").mkdir()
    return tmp_path / "models" / "team" / "tuned"


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_the_merged_model_is_copied_whole(trained: World, target: Path) -> None:
    result = trained.export(EXPORT)
    assert contents(target) == contents(trained.store.root / place("exports", result.key))


def test_another_target_gets_the_merged_model_that_is_there(trained: World, target: Path) -> None:
    first = trained.export(Export.decode({"merged": {}}))
    made = contents(trained.store.root / place("exports", first.key))
    published = trained.export(EXPORT)
    assert (published.key, published.merged, published.cache_hit) == (first.key, first.merged, True)
    assert contents(target) == made == contents(trained.store.root / place("exports", first.key))


def test_the_export_keeps_a_record_of_where_it_was_published(trained: World, target: Path) -> None:
    result = trained.export(EXPORT)
    assert result.merged is not None
    (record,) = (trained.store.root / place("exports", result.key) / "published").iterdir()
    written, kept = record.stat().st_mtime_ns, json.loads(record.read_text())
    digest = result.merged.digest
    assert kept == {
        "uri": "s3://models/team/tuned",
        "revision": digest,
        "digest": digest,
        "since": kept["since"],
    }
    trained.export(EXPORT)
    assert record.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"uri": "s3:', id="is cut"),
        pytest.param("[]", id="is no object"),
        pytest.param("[" * 9999, id="never ends"),
    ],
)
def test_a_record_is_written_anew_that(trained: World, target: Path, text: str) -> None:
    result = trained.export(EXPORT)
    (record,) = (trained.store.root / place("exports", result.key) / "published").iterdir()
    whole = json.loads(record.read_text())
    record.write_text(text)
    trained.export(EXPORT)
    assert json.loads(record.read_text()) | {"since": whole["since"]} == whole


def test_a_copy_that_is_gone_is_made_again_from_the_store(trained: World, target: Path) -> None:
    result = trained.export(EXPORT)
    (target / "manifest.json").unlink()
    (target / "model.safetensors").unlink()
    again = trained.export(EXPORT)
    assert again.cache_hit
    assert contents(target) == contents(trained.store.root / place("exports", result.key))


def test_a_copy_that_is_there_is_left(trained: World, target: Path) -> None:
    trained.export(EXPORT)
    (target / "README.md").write_text("edited by its owner")
    trained.export(EXPORT)
    assert (target / "README.md").read_text() == "edited by its owner"


def test_a_copy_whose_manifest_is_damaged_is_made_again(trained: World, target: Path) -> None:
    trained.export(EXPORT)
    whole = contents(target)
    harmed = whole["manifest.json"].replace(b'"kind": "exports"', b'"kind": "exportr"')
    (target / "manifest.json").write_bytes(harmed)
    (target / "config.json").write_bytes(b"{}")
    trained.export(EXPORT)
    assert contents(target) == whole


def replaced(trained: World, target: Path) -> set[str]:
    """Publishes, and makes the model there an earlier one that has a file more. What is to be there once it
    is published again."""
    trained.export(EXPORT)
    wanted = {*contents(target), "notes.txt"}
    manifest = json.loads((target / "manifest.json").read_text())
    stale = {"path": "model-00001-of-00002.safetensors", "size": 1, "sha256": "0" * 64}
    files = [*manifest["files"], stale]
    digest = files_digest(tuple(ManifestFile.decode(file) for file in files))
    before = manifest | {"files": files, "digest": digest}
    (target / "manifest.json").write_text(json.dumps(before | {"seal": seal(before)}))
    (target / "model-00001-of-00002.safetensors").write_bytes(b"x")
    (target / "notes.txt").write_text("not ours")
    return wanted


def test_a_file_that_only_the_model_before_had_is_removed(trained: World, target: Path) -> None:
    wanted = replaced(trained, target)
    trained.export(EXPORT)
    assert contents(target).keys() == wanted


def test_it_is_removed_though_the_first_attempt_was_broken_off(
    trained: World, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = replaced(trained, target)
    with monkeypatch.context() as crash:
        crash.setattr(store_copy, "copy_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained.export(EXPORT)
    assert "manifest.json" not in contents(target)
    trained.export(EXPORT)
    assert contents(target).keys() == wanted


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt
