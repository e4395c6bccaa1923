"""The program that makes the real small model, where several processes want it at once."""

from pathlib import Path

import pytest

from stages.peer import smollm2_sample


def made(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(folder.name)
    return folder


def test_a_model_that_another_process_was_faster_to_make_is_taken(tmp_path: Path) -> None:
    target = made(tmp_path / "theirs")
    smollm2_sample()._settle(made(tmp_path / "ours"), target)
    assert (target / "config.json").read_text() == "theirs"


def test_a_model_that_can_t_be_put_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        smollm2_sample()._settle(made(tmp_path / "ours"), tmp_path / "nowhere" / "model")
