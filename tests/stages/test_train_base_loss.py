"""What the base makes of the held-out rows: measured before the first step, once for the same model and rows,
and found from then on.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import COMPARED
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.store.seal import seal
from stages.train_builders import OVERFITTING, PROGRESS, Interrupting, Row, World, random_rows, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

ACTIVITY = "evaluating the base"
FIELDS: dict[str, Any] = {"evaluation": {"fraction": "0.2", "everySteps": 2}, "precision": "fp32"}


class Listening(Reporter):
    """Keeps which activities there were."""

    def __init__(self, root: Path) -> None:
        super().__init__("train", root / PROGRESS)
        self.heard: list[str] = []

    def begin(self, activity: str, total: int | None, unit: str, done: int = 0) -> None:
        super().begin(activity, total, unit, done)
        self.heard.append(activity)


def is_measured(made: World) -> bool:
    """Trains, and says whether the base was evaluated for it."""
    reporter = Listening(made.root)
    made.train_with(reporter)
    return ACTIVITY in reporter.heard


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The first training of a model that is held against these rows."""
    made = world(tmp_path_factory.mktemp("first"), **FIELDS)
    assert is_measured(made)
    return made


def own_loss(made: World, rows: list[Row]) -> float:
    """Mean negative log-likelihood of all learned tokens, from the logits of the model on the disk."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(made.root / "tiny", dtype=torch.float32)
    nats: list[float] = []
    for row in rows:
        logits = model(torch.tensor([row["input_ids"]])).logits[0].log_softmax(-1)
        learned = [(at, label) for at, label in enumerate(row["labels"][1:]) if label >= 0]
        nats += [-float(logits[at, label]) for at, label in learned]
    return sum(nats) / len(nats)


def test_it_is_that_of_the_model_alone_and_the_first_row_of_the_log(first: World) -> None:
    own = own_loss(first, random_rows(3, seed=1))
    assert first.metrics()[0] == {"step": 0, "epoch": 0, "eval_loss": pytest.approx(own, rel=1e-5)}


OTHERS: dict[str, dict[str, Any]] = {
    "another learning rate": {"learningRate": "1e-3"},
    "another adapter": {"lora": {"rank": 2, "variant": "dora"}},
    "conversations that are padded": {"packing": "none"},
    "other moments of evaluation": {"evaluation": {"fraction": "0.2", "everySteps": 3}},
}


@pytest.mark.parametrize("sentence", OTHERS)
def test_it_is_found_by_a_training_with(first: World, sentence: str) -> None:
    other = first.training(**{**FIELDS, "epochs": None, "maxSteps": 2, **OTHERS[sentence]})
    assert not is_measured(other)
    assert other.metrics()[0] == first.metrics()[0]


def test_it_is_measured_anew_in_another_precision(first: World, tmp_path: Path) -> None:
    other = first.copy(tmp_path).training(**FIELDS | {"precision": "bf16", "epochs": None, "maxSteps": 2})
    assert is_measured(other)
    assert other.metrics()[0]["eval_loss"] == pytest.approx(first.metrics()[0]["eval_loss"], rel=1e-2)


def test_what_is_kept_says_what_it_was_measured_with(first: World) -> None:
    from lorafinetune_stages.store.manifest import read_manifest

    (place,) = {path.parent for path in (first.store.root / "evaluations").glob("*/manifest.json")}
    manifest = read_manifest(first.store, f"evaluations/{place.name}")
    assert manifest is not None
    assert manifest.key == place.name
    assert manifest.result
    assert manifest.result["evalLoss"] == first.metrics()[0]["eval_loss"]
    assert manifest.result["losses"]["rows"] == len(manifest.result["losses"]["nats"]) == 3
    assert manifest.lineage["model"] == first.manifest().lineage["model"]


def _of_another_base(text: str) -> str:
    content = json.loads(text) | {"key": "b" * 64}
    return json.dumps(content | {"seal": seal(content)})


HARMS: dict[str, tuple[Callable[[str], str], str]] = {
    "can't be read": (lambda _: "{}", "kind: Field required"),
    "has another digit": (
        lambda text: text.replace('"rows": 3', '"rows": 2'),
        "its seal is not that of what it says",
    ),
    "is another base's": (_of_another_base, "it is the manifest of another output, whose key is bbb"),
}
"""What is done to the manifest, and what is said of it."""


@pytest.mark.parametrize("sentence", HARMS)
def test_it_is_measured_anew_where_what_is_kept(
    sentence: str, first: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    again, (harm, says) = first.copy(tmp_path), HARMS[sentence]
    again.store.delete(f"trainings/{again.arguments.key}")
    (kept,) = (again.store.root / "evaluations").glob("*/manifest.json")
    whole = kept.read_text()
    kept.write_text(harm(whole))
    assert is_measured(again)
    assert f"the base is evaluated again: {again.store.uri}/evaluations/" in caplog.text
    assert says in caplog.text
    assert again.metrics() == first.metrics()
    assert json.loads(kept.read_text())["result"] == json.loads(whole)["result"]


def test_a_number_without_its_rows_is_of_an_older_version_and_is_measured_anew(
    first: World, tmp_path: Path
) -> None:
    again = first.copy(tmp_path)
    (kept,) = (again.store.root / "evaluations").glob("*/manifest.json")
    manifest = json.loads(kept.read_text())
    del manifest["seal"]
    kept.write_text(json.dumps(manifest | {"result": {"evalLoss": manifest["result"]["evalLoss"]}}))
    again.store.delete(f"trainings/{again.arguments.key}")
    assert is_measured(again)
    assert json.loads(kept.read_text())["result"] == manifest["result"]


def test_each_row_is_kept_of_the_base_and_of_what_is_exported(first: World) -> None:
    held_out, log = first.compared(), first.metrics()
    assert (held_out["rows"], held_out["tokens"]) == (3, [6, 14, 13])
    for side, row in (("base", log[0]), ("tuned", log[-1])):
        loss = sum(held_out[side]) / sum(held_out["tokens"])
        assert loss == pytest.approx(row["eval_loss"])


@pytest.mark.parametrize(
    ("fields", "which"),
    [
        pytest.param({"packing": "none"}, None, id="without packing the rows are the same"),
        pytest.param({**OVERFITTING, "checkpoint": {"select": "best"}}, "best", id="they are of the best"),
    ],
)
def test_the_rows_of(first: World, fields: dict[str, Any], which: str | None) -> None:
    other = first.training(**{**FIELDS, **fields})
    other.train()
    held_out, evaluated = other.compared(), [row for row in other.metrics() if "eval_loss" in row]
    assert held_out["base"] == pytest.approx(first.compared()["base"], rel=1e-5)
    losses = [row["eval_loss"] for row in evaluated[1:]]
    wanted = min(losses) if which == "best" else losses[-1]
    assert sum(held_out["tuned"]) / sum(held_out["tokens"]) == pytest.approx(wanted)


def test_a_training_that_goes_on_has_it_from_its_checkpoint(first: World, tmp_path: Path) -> None:
    left = first.copy(tmp_path)
    left.store.delete("evaluations")
    assert left.checkpoints()
    assert not is_measured(left)
    assert left.metrics() == first.metrics()
    assert COMPARED not in [file.path for file in left.manifest().files]


def test_a_request_to_stop_ends_it_at_once(first: World, tmp_path: Path) -> None:
    left = first.copy(tmp_path)
    left.store.delete(f"trainings/{left.arguments.key}")
    left.store.delete("evaluations")
    with pytest.raises(StageError) as stopped:
        left.train_with(Interrupting(tmp_path / PROGRESS, ACTIVITY))
    assert stopped.value.reason is Reason.PREEMPTED
    assert stopped.value.message == "the training was asked to stop before its first step"
    assert (left.checkpoints(), list(left.store.list("evaluations"))) == ([], [])
    assert is_measured(left)
    assert left.metrics() == first.metrics()


def test_without_evaluation_there_is_none(first: World) -> None:
    other = first.training(epochs=None, maxSteps=1)
    assert not is_measured(other)
    assert "eval_loss" not in other.metrics()[0]
