"""Pairs of answers and plain texts from rows to a merged model, as the page tells people to run them."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from documents import Typist, said
from local.runs import CHAT_TEMPLATE
from stages.train_builders import tiny_model

pytestmark = pytest.mark.model

TINY = {"s3://samples/SmolLM2-135M-Instruct": "s3://samples/tiny", ".venv/bin/": ""}


@pytest.fixture
def reader(tmp_path: Path) -> Typist:
    """Somebody in a folder with a store, and in it a model that trains in a second."""
    model = tmp_path / "lorafinetune-store" / "samples" / "tiny"
    tiny_model(model)
    (model / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    made = Typist(tmp_path)
    made.environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    return made


def status(reader: Typist, name: str) -> dict[str, Any]:
    """Of a run that is complete."""
    kept = yaml.safe_load((reader.folder / f"lorafinetune-runs/default/{name}/resource.yaml").read_text())
    found: dict[str, Any] = kept["status"]
    assert found["stage"] == "Complete"
    assert found["artifacts"]["merged"]["bytes"]
    return found


def metrics(reader: Typist) -> list[Mapping[str, Any]]:
    (path,) = reader.folder.glob("lorafinetune-store/finetunes/*/trainings/*/metrics.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_preferences(reader: Typist) -> None:
    reader.type(said("docs/how-to/objectives.md", "Preferences"), changed=TINY)
    found = status(reader, "prefer")
    assert found["dataset"]["formats"] == ["preference"]
    assert (found["dataset"]["rows"], found["dataset"]["evalRows"]) == (3, 1)
    rows = metrics(reader)
    assert rows[0]["eval_loss"] == pytest.approx(0.693, abs=0.001)
    assert rows[1]["loss"] == pytest.approx(0.693, abs=0.001)
    assert "eval_rewards/accuracies" in rows[-1]


def test_plain_texts(reader: Typist) -> None:
    reader.type(said("docs/how-to/objectives.md", "Plain texts"), changed=TINY)
    found = status(reader, "read")
    assert found["dataset"]["formats"] == ["text"]
    assert found["dataset"]["tokens"] == 16 * found["dataset"]["rows"]
    rows = metrics(reader)
    assert rows[-2]["loss"] < rows[1]["loss"]
    assert "eval_loss" in rows[-1]
