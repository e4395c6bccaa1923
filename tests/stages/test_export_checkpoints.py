"""Any checkpoint that a training has kept is merged on request, and nothing is trained again."""

from pathlib import Path

import pytest

from lorafinetune.api.exports import Export
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store.manifest import read_manifest
from stages.test_export import MERGED, assert_equal, directory, load, peer_export
from stages.train_builders import World, tiny_model, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]


def of_step(step: int) -> Export:
    return Export.decode({"merged": {"checkpoint": step}})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A training of four steps that has kept a checkpoint of each but the last."""
    root = tmp_path_factory.mktemp("trained")
    saved = {"every": 1, "keep": "all"}
    made = world(root, model=tiny_model(root / "model"), epochs=None, maxSteps=4, checkpoint=saved)
    made.train()
    return made


def test_the_adapter_of_a_kept_step_is_merged(trained: World, tmp_path: Path) -> None:
    result, last = trained.export(of_step(2)), trained.export(MERGED)
    ours = load(directory(trained, result))
    adapter = trained.state(2)
    assert_equal(ours, peer_export(trained.root / "model", adapter, tmp_path / "theirs"))
    assert result.key != last.key
    assert result.warnings == ("export.merged: of the checkpoint of step 2, not of the training's result",)
    assert last.warnings == ()
    manifest = read_manifest(trained.store, f"exports/{result.key}")
    assert manifest
    assert manifest.lineage["checkpoint"] == 2
    card = (directory(trained, result) / "README.md").read_text()
    assert "| optimizer steps | 2 |" in card
    assert f"`{manifest.lineage['adapter']}`" in card
    assert trained.export(of_step(2)).cache_hit


@pytest.mark.parametrize(
    ("step", "there"),
    [
        pytest.param(4, "1, 2, 3", id="the last step, which is the training's result"),
        pytest.param(7, "1, 2, 3", id="a step that there was not"),
    ],
)
def test_a_checkpoint_that_was_not_kept_is_refused_with_those_that_were(
    trained: World, step: int, there: str
) -> None:
    with pytest.raises(StageError) as refused:
        trained.export(of_step(step))
    assert refused.value.reason is Reason.CONFIG_INVALID
    assert refused.value.message == (
        f"export.merged.checkpoint: {step}: the training has kept no checkpoint of that step; "
        f"there are those of the steps: {there}"
    )


def test_a_checkpoint_that_is_damaged_or_not_whole_is_none(trained: World, tmp_path: Path) -> None:
    left = trained.copy(tmp_path)
    whole = trained.place / "manifest.json"
    (left.place / "manifest.json").write_bytes(whole.read_bytes())
    (left.state(1) / "manifest.json").write_text("{}")
    (left.state(2) / "manifest.json").unlink()
    with pytest.raises(StageError, match=r"there are those of the steps: 3$"):
        left.export(of_step(1))


def test_an_adapter_that_is_not_what_its_manifest_says_is_not_merged(trained: World, tmp_path: Path) -> None:
    left = trained.copy(tmp_path)
    (left.place / "manifest.json").write_bytes((trained.place / "manifest.json").read_bytes())
    weights = left.state(3) / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(StageError) as refused:
        left.export(of_step(3))
    assert refused.value.reason is Reason.ARTIFACT_CORRUPT
