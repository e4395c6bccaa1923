"""Steps of so many tokens, made of the rows that were prepared."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_from_disk

from lorafinetune_stages.train import token_steps
from lorafinetune_stages.train.token_steps import TokenSteps, lengths, one_step

SIZES = [5, 30, 1, 12, 8, 25, 3, 17]


@pytest.fixture
def rows(tmp_path: Path) -> Dataset:
    """As the training finds them: on the disk."""
    made = [{"input_ids": [number] * size, "labels": [number] * size} for number, size in enumerate(SIZES)]
    Dataset.from_list(made).save_to_disk(tmp_path / "rows")
    return load_from_disk(str(tmp_path / "rows"))


def test_the_lengths_of_all_rows_in_their_order(rows: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lengths(rows).tolist() == SIZES
    monkeypatch.setattr(token_steps, "READ_ROWS", 3)
    assert lengths(rows).tolist() == SIZES
    assert lengths(rows.select([2, 0])).tolist() == [1, 5]


def test_every_row_is_whole_and_in_one_step(rows: Dataset) -> None:
    steps = TokenSteps.of(rows, 32, seed=1)
    taken = [[[*row["input_ids"]] for row in steps[number]] for number in range(len(steps))]
    assert sorted(row for step in taken for row in step) == [[n] * size for n, size in enumerate(SIZES)]
    assert all(sum(map(len, step)) <= 32 for step in taken)
    assert len(steps) == 4


def test_a_batch_is_one_step() -> None:
    step: list[dict[str, Any]] = [{"input_ids": [1]}, {"input_ids": [2]}]
    assert one_step(lambda rows: [row["input_ids"] for row in rows], [step]) == [[1], [2]]
