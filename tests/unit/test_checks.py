"""The checks before any Job: one accepted and one refused example each."""

from dataclasses import replace
from typing import Any

import pytest

from builders import resource
from lorafinetune.contract.https import ANYWHERE, HttpsSources
from lorafinetune.core.checks import first_violation, violations
from lorafinetune.core.jobs import Settings
from unit.world import World

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
    "a dataset from a web server, where none is allowed": (
        {"datasets": [{"source": "https://files.example/rows.jsonl"}]},
        "spec.datasets[0].source: https://files.example/rows.jsonl can't be fetched: files.example is none "
        "of the hosts that this installation allows datasets from",
    ),
    "an argument that names a path": (
        {"training": {"extraArgs": {"output_dir": "/x"}}},
        "spec.training.extraArgs.output_dir: is not allowed: it names a file or a directory, "
        "and stages read and write only the store",
    ),
    "an argument that sends data out": (
        {"training": {"extraArgs": {"report_to": "wandb"}}},
        "spec.training.extraArgs.report_to: is not allowed: it sends data to a tracker",
    ),
    "an argument that nobody knows": (
        {"training": {"extraArgs": {"learnin_rate": "1"}}},
        "spec.training.extraArgs.learnin_rate: LLaMA-Factory has no argument of this name: "
        "did you mean learning_rate?",
    ),
    "an argument that a field stands for": (
        {"training": {"extraArgs": {"learning_rate": "1e-4"}}},
        "spec.training.extraArgs.learning_rate: has a field of its own",
    ),
    "an argument of the wrong type": (
        {"training": {"extraArgs": {"neftune_noise_alpha": "five"}}},
        "spec.training.extraArgs.neftune_noise_alpha: must be a number from 0 to 1000, but not 0, not 'five'",
    ),
    "an argument that is no finite number": (
        {"training": {"extraArgs": {"neftune_noise_alpha": "nan"}}},
        "spec.training.extraArgs.neftune_noise_alpha: must be a number from 0 to 1000, but not 0, not 'nan'",
    ),
    "another loss for pairs of answers": (
        {"training": {"objective": "dpo", "extraArgs": {"use_dft_loss": "true"}}},
        "spec.training.extraArgs.use_dft_loss: does not go with training.objective: dpo",
    ),
    "noise that would disturb the base that answers are compared with": (
        {"training": {"objective": "dpo", "extraArgs": {"neftune_noise_alpha": "5"}}},
        "spec.training.extraArgs.neftune_noise_alpha: does not go with training.objective: dpo",
    ),
    "noise by the length of a row, for steps that are never padded": (
        {
            "training": {
                "packing": "tokens",
                "batchTokens": 4096,
                "extraArgs": {"neftune_noise_alpha": "5"},
            }
        },
        "spec.training.extraArgs.neftune_noise_alpha: does not go with training.packing: tokens",
    ),
    "more text than one variable can carry": (
        {"datasets": [{"source": "s3://data/a.json", "system": "x" * 8000}] * 12},
        "spec: is 98513 bytes long; 75 KiB are the limit",
    ),
}


ELSEWHERE: dict[str, tuple[dict[str, Any], str]] = {
    "a model": ({"model": {"source": "file:///m"}}, "Use s3://, hf:// or modelscope://."),
    "a dataset": (
        {"datasets": [{"source": "file:///rows.json"}]},
        "Use s3://, hf://, modelscope:// or https://.",
    ),
    "a store": ({"storage": {"uri": "file:///x"}}, "Use s3://."),
}


@pytest.mark.parametrize("sentence", ELSEWHERE)
def test_what_is_on_the_machine_s_own_disk_may_be_elsewhere(sentence: str) -> None:
    spec, expected = ELSEWHERE[sentence]
    violation = first_violation(resource(spec), Settings())
    assert violation
    assert violation.hint == expected


@pytest.mark.parametrize("sentence", REFUSED)
def test_refused(sentence: str) -> None:
    spec, message = REFUSED[sentence]
    violation = first_violation(resource(spec), Settings())
    assert violation is not None
    assert (violation.reason, violation.message) == ("ConfigInvalid", message)
    assert violation.hint


def test_a_file_is_told_of_all_that_is_wrong() -> None:
    wrong = resource(
        {
            "model": {"source": "file:///m", "template": "glm5"},
            "training": {"objective": "dpo", "extraArgs": {"adam_beta1": "2", "neftune_noise_alpha": "5"}},
        }
    )
    fields = [violation.message.split(":")[0] for violation in violations(wrong, Settings())]
    assert fields == [
        "spec.model.source",
        "spec.model.template",
        "spec.training.extraArgs.adam_beta1",
        "spec.training.extraArgs.neftune_noise_alpha",
    ]


ACCEPTED: dict[str, dict[str, Any]] = {
    "a plain resource": {},
    "an allowed argument": {"training": {"extraArgs": {"neftune_noise_alpha": "5"}}},
    "noise for plain texts": {"training": {"objective": "pt", "extraArgs": {"neftune_noise_alpha": "5"}}},
    "steps of tokens, and an argument that goes with them": {
        "training": {"packing": "tokens", "batchTokens": 4096, "extraArgs": {"adam_beta1": "0.8"}}
    },
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


ALLOWED: dict[str, tuple[HttpsSources, str, bool]] = {
    "a host that is listed": (HttpsSources(hosts=("a.example",)), "https://a.example/x.json", True),
    "its own port": (HttpsSources(hosts=("a.example",)), "https://a.example:443/x.json", True),
    "its own port, listed": (HttpsSources(hosts=("a.example:443",)), "https://a.example/x.json", True),
    "another port of it": (HttpsSources(hosts=("a.example",)), "https://a.example:8443/x.json", False),
    "a port that is listed": (HttpsSources(hosts=("a.example:8443",)), "https://a.example:8443/x.json", True),
    "a host below it": (HttpsSources(hosts=("a.example",)), "https://b.a.example/x.json", False),
    "a host that begins so": (HttpsSources(hosts=("a.example",)), "https://a.example.evil/x.json", False),
    "a host that ends so": (HttpsSources(hosts=("a.example",)), "https://evila.example/x.json", False),
    "an address": (HttpsSources(hosts=("a.example",)), "https://169.254.169.254/latest/x.json", False),
    "every host, on a laptop": (ANYWHERE, "https://a.example/x.json", True),
}


@pytest.mark.parametrize("sentence", ALLOWED)
def test_datasets_come_from(sentence: str) -> None:
    https, source, allowed = ALLOWED[sentence]
    violation = first_violation(resource({"datasets": [{"source": source}]}), Settings(https=https))
    assert (violation is None) is allowed
    assert allowed or (violation and "`sources.httpsHosts`" in violation.hint)


def test_a_host_that_is_taken_off_the_list_ends_nothing_that_has_its_data() -> None:
    world = World({"datasets": [{"source": "https://a.example/x.json"}]})
    world.settings = replace(world.settings, https=ANYWHERE)
    world.run_to_end()
    assert first_violation(world.resource, Settings()) is None


def test_a_template_of_a_name_that_is_written_wrong_is_no_template_of_the_model() -> None:
    violation = first_violation(resource({"model": {"source": "hf://a/b", "template": "glm-4"}}), Settings())
    assert violation is not None
    assert (violation.reason, violation.message) == (
        "TemplateMismatch",
        "spec.model.template: LLaMA-Factory has no template 'glm-4': did you mean glm4 or glm4v or glm4_7?",
    )
