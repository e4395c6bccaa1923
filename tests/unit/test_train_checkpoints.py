"""Which checkpoints stay in the store after one was saved."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest

from lorafinetune.api.status import ModelStatus
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.train.checkpoints import Checkpoints, is_kept
from lorafinetune_stages.train.fence import Fence
from lorafinetune_stages.train.last_checkpoint import LastCheckpoint
from lorafinetune_stages.train.state_store import StateWriter
from lorafinetune_stages.train.states import State
from lorafinetune_stages.train.uploads import Uploads

MODEL = ModelStatus(source="hf://owner/model", revision="c0ffee", digest="d" * 64, bytes=1)
LEFT = 7
"""The attempt that left what there is."""


@pytest.mark.parametrize(
    ("keep", "rotates", "there", "kept"),
    [
        pytest.param(2, True, [1, 2, 3], [4, 3], id="as many of the newest as are asked for"),
        pytest.param("all", True, [1, 2, 3], [4, 3, 2, 1], id="all"),
        pytest.param(1, False, [1, 2, 3], [4, 3, 2, 1], id="all for as long as the newest may be of no use"),
        pytest.param(1, True, [3, 9], [4], id="not one that an attempt left which was overtaken"),
        pytest.param("all", True, [3, 9], [4, 3], id="nor where all are kept"),
    ],
)
def test_after_one_was_saved_are_kept(
    tmp_path: Path, keep: int | Literal["all"], rotates: bool, there: Sequence[int], kept: Sequence[int]
) -> None:
    store, uploads = DirectoryStore(tmp_path / "store", "s3://bucket/runs"), Uploads()
    store.write(f"t/attempts/{LEFT + 1}", b"begun")
    fence = Fence(store, "t")
    saved = StateWriter(store, "t/checkpoints", "checkpoint", "a" * 64, MODEL, is_kept, fence)
    for step in there:
        store.write(f"t/checkpoints/{step}/{LEFT}/manifest.json", b"left by another attempt")
    store.write(f"t/checkpoints/2/{LEFT + 1}/optimizer.pt", b"an upload that was cut")
    directory = tmp_path / "checkpoint-4"
    directory.mkdir()
    (directory / "adapter_config.json").write_text(json.dumps({"target_modules": ["q_proj"]}))
    told: list[str] = []
    checkpoints = Checkpoints(saved, keep, None, LastCheckpoint(tmp_path), uploads)
    checkpoints.save(directory, 4, {}, rotates, lambda _: told.append("complete"))
    uploads.wait()
    attempts = [fence.number] + [LEFT] * (len(kept) - 1)
    states = saved.states()
    assert [state for state, is_whole in states.items() if is_whole] == list(map(State, kept, attempts))
    assert all(states.values()) == rotates
    assert told == ["complete"]
    assert not directory.exists()
