"""The commands of the page about the command line that need no cluster, typed as they stand."""

import os
import sys
from pathlib import Path

import pytest

from documents import Typist, checkout, said
from unit.report_runs import data_report, ended, put, steps


@pytest.fixture
def reader(tmp_path: Path) -> Typist:
    """Somebody who has installed the program, and types in a clone of the repository."""
    made = Typist(checkout(tmp_path, {}))
    made.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return made


def test_a_first_file_is_valid_and_says_what_is_trained(reader: Typist) -> None:
    printed = reader.type(said("docs/how-to/cli.md", "A first file"))
    assert "LoRAFineTune smollm2-135m-instruct is valid" in printed
    assert "num_train_epochs: 3.0" in printed


def test_a_reason_is_explained(reader: Typist) -> None:
    printed = reader.type(said("docs/how-to/cli.md", "When a run fails"))
    assert printed.startswith("CudaOutOfMemory: The GPU's memory is too small")


def test_an_empty_store_holds_nothing(reader: Typist) -> None:
    (reader.folder / "lorafinetune-store" / "finetunes").mkdir(parents=True)
    printed = reader.type(said("docs/how-to/cli.md", "What a store holds for nothing"))
    assert printed == (
        "runs of this store: none in lorafinetune-runs\n0 outputs, 0 bytes, that no run refers to\n"
    )


def test_a_page_about_a_run_is_written(reader: Typist) -> None:
    folder = reader.folder / "lorafinetune-runs" / "default" / "smollm2-emollm"
    folder.mkdir(parents=True)
    put(reader.folder, ended(), steps(3), data_report(), {}).rename(folder / "resource.yaml")
    assert reader.type(said("docs/how-to/cli.md", "A page about a run")) == "report.html\n"
    assert (reader.folder / "report.html").read_text().startswith("<!doctype html>")
