"""The checks before any Job: one accepted and one refused example each."""

from typing import Any

import pytest

from builders import resource
from lorafinetune.contract.extra_args import EXTRA_ARGUMENTS
from lorafinetune.core.checks import first_violation
from lorafinetune.core.jobs import Settings

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a model on the machine's own disk": (
        {"model": {"source": "file:///models/a"}},
        "spec.model.source: file:///models/a is for local runs only",
    ),
    "a store on the machine's own disk": (
        {"storage": {"uri": "file:///tmp/x"}},
        "spec.storage.uri: file:///tmp/x is for local runs only",
    ),
    "a dataset on the machine's own disk": (
        {"datasets": [{"source": "s3://data/a.json"}, {"source": "file:///rows.json"}]},
        "spec.datasets[1].source: file:///rows.json is for local runs only",
    ),
    "an argument that names a path": (
        {"training": {"extraArgs": {"output_dir": "/x"}}},
        "spec.training.extraArgs.output_dir: is not allowed",
    ),
    "an argument that sends data out": (
        {"training": {"extraArgs": {"report_to": "wandb"}}},
        "spec.training.extraArgs.report_to: is not allowed",
    ),
    "an argument that nobody knows": (
        {"training": {"extraArgs": {"learnin_rate": "1"}}},
        "spec.training.extraArgs.learnin_rate: is not in the list of allowed arguments",
    ),
    "an argument of the wrong type": (
        {"training": {"extraArgs": {"neftune_noise_alpha": "five"}}},
        "spec.training.extraArgs.neftune_noise_alpha: 'five' is not of the type float",
    ),
    "an argument that is no finite number": (
        {"training": {"extraArgs": {"neftune_noise_alpha": "nan"}}},
        "spec.training.extraArgs.neftune_noise_alpha: 'nan' is not of the type float",
    ),
    "more than one GPU": (
        {"resources": {"train": {"gpu": {"count": 2}}}},
        "spec.resources.train.gpu.count: 2 GPUs are not supported yet",
    ),
    "more text than one variable can carry": (
        {"datasets": [{"source": "s3://data/a.json", "system": "x" * 8000}] * 12},
        "spec: is 98443 bytes long; 75 KiB are the limit",
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_refused(sentence: str) -> None:
    spec, message = REFUSED[sentence]
    violation = first_violation(resource(spec), Settings())
    assert violation is not None
    assert (violation.reason, violation.message) == ("ConfigInvalid", message)
    assert violation.hint


ACCEPTED: dict[str, dict[str, Any]] = {
    "a plain resource": {},
    "an allowed argument": {"training": {"extraArgs": {"neftune_noise_alpha": "5"}}},
    "publishing to a store": {"export": {"merged": {}, "publish": [{"to": "s3://models/a"}]}},
    "publishing to hubs": {
        "export": {"merged": {}, "publish": [{"to": "hf://team/a"}, {"to": "modelscope://team/a"}]}
    },
}


@pytest.mark.parametrize("sentence", ACCEPTED)
def test_accepted(sentence: str) -> None:
    assert first_violation(resource(ACCEPTED[sentence]), Settings()) is None


def test_a_local_run_may_use_local_paths() -> None:
    local = resource({"model": {"source": "file:///m"}, "storage": {"uri": "file:///s"}})
    assert first_violation(local, Settings(local=True)) is None


@pytest.mark.parametrize("name", EXTRA_ARGUMENTS)
def test_every_allowed_argument_parses_a_value_of_its_type(name: str) -> None:
    argument = EXTRA_ARGUMENTS[name]
    text = {int: "5", float: "0.5"}[argument.type]
    assert type(argument.parse(text)) is argument.type
