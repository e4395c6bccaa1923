"""What a run hands to others: the ConfigMap that is to be there, for every state of a run."""

from typing import Any

import pytest

from builders import artifact, sha
from lorafinetune.api.artifacts import Artifacts
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import LoRAFineTuneStatus, ModelStatus, TrainingStatus
from lorafinetune.core.handover import config_map, data
from unit.world import World

ASKS: dict[str, Any] = {"export": {"merged": {}, "configMap": {"name": "tuned"}}}


def ended(spec: dict[str, Any]) -> LoRAFineTune:
    world = World(spec)
    world.run_to_end()
    return world.resource


def edited(run: LoRAFineTune) -> LoRAFineTune:
    """Somebody has changed the spec, and nobody has looked at it."""
    later = run.metadata.model_copy(update={"generation": run.metadata.generation + 1})
    return run.model_copy(update={"metadata": later})


RUNS: dict[str, tuple[LoRAFineTune, bool]] = {
    "a run that asks for none has none": (ended({"export": {"merged": {}}}), False),
    "a run that is complete has one": (ended(ASKS), True),
    "a run that has not begun has none": (World(ASKS).resource, False),
    "a run that was edited has none until it is complete again": (edited(ended(ASKS)), False),
}


@pytest.mark.parametrize("sentence", RUNS)
def test_config_map(sentence: str) -> None:
    run, expected = RUNS[sentence]
    made = config_map(run)
    assert (made is not None) == expected
    if made:
        assert made["metadata"]["name"] == "tuned"
        assert made["metadata"]["namespace"] == run.metadata.namespace
        assert [owner["uid"] for owner in made["metadata"]["ownerReferences"]] == [run.metadata.uid]


MODEL = ModelStatus(source="hf://owner/base", revision="c0ffee", digest=sha("base"), bytes=1)
BASE = {"BASE_MODEL": "hf://owner/base", "BASE_REVISION": "c0ffee", "BASE_DIGEST": sha("base")}

DATA: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "what is not known has no name": ({}, {}),
    "the adapter alone": (
        {"model": MODEL, "artifacts": Artifacts(adapter=artifact("adapter"))},
        {"ADAPTER_URI": artifact("adapter").uri, "ADAPTER_DIGEST": artifact("adapter").digest, **BASE},
    ),
    "all outputs": (
        {"artifacts": Artifacts(merged=artifact("merged"), report="s3://bucket/report.html")},
        {
            "MERGED_URI": artifact("merged").uri,
            "MERGED_DIGEST": artifact("merged").digest,
            "REPORT_URI": "s3://bucket/report.html",
        },
    ),
    "the last loss, and that of the base": (
        {"training": TrainingStatus(eval_loss="1.5", base_eval_loss="2")},
        {"EVAL_LOSS": "1.5", "BASE_EVAL_LOSS": "2"},
    ),
    "the loss of the step that the adapter is of": (
        {"training": TrainingStatus(eval_loss="1.5", best_eval_loss="1.25", best_step=3)},
        {"EVAL_LOSS": "1.25"},
    ),
}


@pytest.mark.parametrize("sentence", DATA)
def test_data(sentence: str) -> None:
    status, expected = DATA[sentence]
    assert data(LoRAFineTuneStatus(**status)) == expected
