"""What becomes of LLaMA-Factory's arguments: every one is classified, and those that may be set are checked.

The arguments are read out of the sources of LLaMA-Factory and transformers, which take long to import.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

import pytest

from lorafinetune.api.fields import walk
from lorafinetune.api.spec import LoRAFineTuneSpec
from lorafinetune.contract.extra_args import (
    EXTRA_ARGUMENTS,
    OWNED,
    REFUSED,
    Refusal,
    packing_safe,
    problem,
    shaping,
)

SOURCES: Final = {
    "llamafactory": ("hparams",),
    "transformers": ("training_args.py", "training_args_seq2seq.py"),
}
PARSED: Final = (
    "ModelArguments",
    "DataArguments",
    "LLaMA-Factory's TrainingArguments",
    "FinetuningArguments",
    "GeneratingArguments",
)
"""The dataclasses that LLaMA-Factory's parser reads for a training."""
ALIASES: Final = {"BaseTrainingArguments": "Seq2SeqTrainingArguments"}


def sources() -> Iterator[tuple[str, Path]]:
    for name, parts in SOURCES.items():
        for part in parts:
            path = Path(str(distribution(name).locate_file(f"{name}/{part}")))
            yield from ((name, file) for file in (sorted(path.glob("*.py")) if path.is_dir() else [path]))


@cache
def classes() -> Mapping[str, ast.ClassDef]:
    """By name; LLaMA-Factory calls its own class as transformers calls the base of it."""
    return {
        f"LLaMA-Factory's {node.name}"
        if (package, node.name) == ("llamafactory", "TrainingArguments")
        else node.name: node
        for package, path in sources()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    }


def arguments(name: str) -> Iterator[tuple[str, str]]:
    """Names and types of the fields of a dataclass, its bases' too, that can be given to it."""
    node = classes()[ALIASES.get(name, name)]
    for base in node.bases:
        if isinstance(base, ast.Name):
            yield from arguments(base.id)
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and "init=False" not in ast.unparse(statement):
            yield ast.unparse(statement.target), ast.unparse(statement.annotation)


@cache
def all_arguments() -> Mapping[str, str]:
    return {name: kind for parsed in PARSED for name, kind in arguments(parsed)}


def test_every_argument_of_llama_factory_is_classified() -> None:
    assert len(all_arguments()) > 300
    assert set(all_arguments()) - {*EXTRA_ARGUMENTS, *OWNED, *REFUSED} == set()


def test_every_classified_argument_is_one_of_llama_factory() -> None:
    assert {*EXTRA_ARGUMENTS, *OWNED, *REFUSED} - set(all_arguments()) == set()


def test_no_argument_is_classified_twice() -> None:
    assert len({*EXTRA_ARGUMENTS, *OWNED, *REFUSED}) == len(EXTRA_ARGUMENTS) + len(OWNED) + len(REFUSED)


@pytest.mark.parametrize("name", EXTRA_ARGUMENTS)
def test_an_allowed_argument_has_llama_factorys_type(name: str) -> None:
    ours, theirs = EXTRA_ARGUMENTS[name].type.__name__, all_arguments()[name]
    assert ours in theirs or (ours, theirs) == ("int", "float")


def test_what_names_a_place_or_sends_data_is_refused() -> None:
    suspicious = (
        "path",
        "dir",
        "folder",
        "token",
        "hub",
        "url",
        "api_key",
        "project",
        "swanlab",
        "addr",
        "port",
    )
    found = {name for name in all_arguments() if any(word in name.split("_") for word in suspicious)}
    refused = {name for name in found if name in REFUSED}
    assert len(found) > 25
    assert found - refused == {"model_name_or_path"}
    assert found & set(EXTRA_ARGUMENTS) == set()


def test_a_field_that_stands_for_an_argument_exists() -> None:
    paths = [path for path, _ in walk(LoRAFineTuneSpec)]
    missing = {field for field in OWNED.values() if not any(path.startswith(field) for path in paths)}
    assert missing == set()


def test_every_reason_for_a_refusal_is_used() -> None:
    assert set(REFUSED.values()) == set(Refusal)


PARSES: Final = [
    ("adam_beta1", "0.95", 0.95),
    ("adam_beta2", "0", 0.0),
    ("adam_epsilon", "1e-6", 1e-6),
    ("disable_shuffling", "true", True),
    ("logging_steps", "10", 10),
    ("neftune_noise_alpha", "5", 5.0),
    ("optim", "adafactor", "adafactor"),
    ("use_dft_loss", "false", False),
]


@pytest.mark.parametrize(("name", "text", "value"), PARSES)
def test_a_value_is_taken_by_its_type(name: str, text: str, value: object) -> None:
    assert problem(name, text) is None
    parsed = EXTRA_ARGUMENTS[name].parse(text)
    assert (parsed, type(parsed)) == (value, type(value))


MISFITS: Final = {
    "a beta that Adam refuses": ("adam_beta1", "1", "must be a number from 0 to 1, but not 1, not '1'"),
    "a beta that is negative": ("adam_beta2", "-0.1", "must be a number from 0 to 1, but not 1, not '-0.1'"),
    "no noise at all": ("neftune_noise_alpha", "0", "must be a number from 0 to 1000, but not 0, not '0'"),
    "infinity": ("eaft_alpha", "inf", "must be a number from 0 to 100, not 'inf'"),
    "half a step": ("logging_steps", "0.5", "must be a whole number from 1 to 1000000, not '0.5'"),
    "a truth of Python": ("use_dft_loss", "True", "must be true or false, not 'True'"),
    "a number for a truth": ("disable_shuffling", "1", "must be true or false, not '1'"),
    "an optimizer that needs another package": (
        "optim",
        "paged_adamw_8bit",
        "must be one of adafactor, adagrad, adamw_torch, adamw_torch_fused, rmsprop, sgd, "
        "not 'paged_adamw_8bit'",
    ),
    "a number with an underscore": (
        "logging_steps",
        "1_0",
        "must be a whole number from 1 to 1000000, not '1_0'",
    ),
    "a number with spaces": ("adam_beta1", " 0.5 ", "must be a number from 0 to 1, but not 1, not ' 0.5 '"),
    "a number in other digits": ("adam_beta2", "٠", "must be a number from 0 to 1, but not 1, not '٠'"),
    "an empty text": ("adam_epsilon", "", "must be a number from 0 to 1, not ''"),
    "a text": ("loraplus_lr_ratio", "big", "must be a number from 0 to 1000000, but not 0, not 'big'"),
}


@pytest.mark.parametrize("sentence", MISFITS)
def test_refused_is(sentence: str) -> None:
    name, text, what = MISFITS[sentence]
    assert problem(name, text) == (what, "Mend the value.")


def test_a_key_holds_values_not_spellings() -> None:
    one = shaping({"neftune_noise_alpha": "5", "logging_steps": "2"})
    assert one == shaping({"neftune_noise_alpha": "5.0"}) == {"neftune_noise_alpha": 5.0}


def test_a_key_is_made_of_what_will_be_refused_too() -> None:
    assert shaping({"nonsense": "x", "adam_beta1": "nan"}) == {"nonsense": "x", "adam_beta1": "nan"}


def test_noise_that_is_scaled_by_the_length_of_a_row_and_another_loss_forbid_packing() -> None:
    assert packing_safe(["adam_beta1", "disable_shuffling", "nonsense"])
    assert not packing_safe(["adam_beta1", "neftune_noise_alpha"])
    assert not packing_safe(["use_dft_loss"])
