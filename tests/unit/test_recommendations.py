"""What is told where a training does not fit its card: every single change that is named would do."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import GLM_9B
from lorafinetune.api.datasets import Dataset
from lorafinetune.api.training import Training
from lorafinetune.contract.keys import resolved_packing
from lorafinetune.contract.memory import GIB, MemorySettings, ModelShape, choose, smallest, step_rows, usable
from lorafinetune_stages.prepare.recommendations import Recommendations

ROWS: Final = 900


def settings_of(training: Training) -> MemorySettings:
    packed = resolved_packing(training) != "none"
    plain = training.lora.variant != "dora" and training.quantization == "none"
    compiled = packed and plain and training.precision != "fp32"
    return MemorySettings.of(training, packed=packed, compiled=compiled)


def recommendations(
    card: int, longest: Sequence[int], rule: str = "fail", **training: Any
) -> Recommendations:
    given = Training.decode({"epochs": "1", **training})
    dataset = Dataset.decode({"source": "s3://raw/a", "onBadRow": rule})
    shape, available = ranked(given.lora.rank), usable(card * GIB)
    return Recommendations(
        given, [dataset], shape, settings_of, longest, ROWS, step_rows(given, longest), available
    )


def ranked(rank: int) -> ModelShape:
    """GLM-4-9B with adapters of another rank."""
    return replace(GLM_9B, adapter=GLM_9B.adapter * rank // 8, middles=GLM_9B.middles * rank // 8)


TOLD: Final[Mapping[str, tuple[Recommendations, list[str]]]] = {
    "a shorter cutoff, and how many rows it spoils": (
        recommendations(24, (8192, 8000, 100)),
        [
            "`spec.training.quantization: nf4`",
            "`spec.training.cutoffLength: 5981` with `onBadRow: skip`, since 2 of 900 rows are longer",
            "`spec.resources.train.gpu.memory: 26Gi` for a card of that size",
        ],
    ),
    "more rows than are known by their length": (
        recommendations(24, (8192,) * 64),
        [
            "`spec.training.quantization: nf4`",
            "`spec.training.cutoffLength: 5981` with `onBadRow: skip`, since at least 64 of 900 rows are "
            "longer",
            "`spec.resources.train.gpu.memory: 26Gi` for a card of that size",
        ],
    ),
    "bad rows are skipped already": (
        recommendations(24, (8192,), "skip"),
        [
            "`spec.training.quantization: nf4`",
            "`spec.training.cutoffLength: 5981`",
            "`spec.resources.train.gpu.memory: 26Gi` for a card of that size",
        ],
    ),
    "texts are cut into shorter rows, and none is spoilt": (
        recommendations(24, (8192,), objective="pt"),
        [
            "`spec.training.quantization: nf4`",
            "`spec.training.cutoffLength: 5981`",
            "`spec.resources.train.gpu.memory: 26Gi` for a card of that size",
        ],
    ),
    "a base in 4 bits": (
        recommendations(16, (2048,)),
        [
            "`spec.training.quantization: nf4`",
            "`spec.resources.train.gpu.memory: 22Gi` for a card of that size",
        ],
    ),
    "nothing but a larger card": (
        recommendations(4, (2048,), lora={"variant": "rslora"}),
        ["`spec.resources.train.gpu.memory: 22Gi` for a card of that size"],
    ),
    "adapters that change the weights themselves, which are not quantised then": (
        recommendations(16, (2048,), lora={"variant": "dora"}),
        [
            "`spec.resources.train.gpu.memory: 22Gi` for a card of that size",
        ],
    ),
    "packing": (
        recommendations(24, (2048,), "skip", packing="none"),
        [
            "`spec.training.packing: auto`",
            "`spec.training.quantization: nf4`",
            "`spec.training.cutoffLength: 1917`",
            "`spec.resources.train.gpu.memory: 25Gi` for a card of that size",
        ],
    ),
    "another precision": (
        recommendations(24, (2048,), precision="fp32"),
        [
            "`spec.training.precision: bf16`",
            "`spec.resources.train.gpu.memory: 41Gi` for a card of that size",
        ],
    ),
    "a lower rank": (
        recommendations(24, (128,), lora={"rank": 512}),
        [
            "`spec.training.lora.rank: 80`",
            "`spec.resources.train.gpu.memory: 47Gi` for a card of that size",
        ],
    ),
}


@pytest.mark.parametrize("sentence", TOLD)
def test_what_would_do_is(sentence: str) -> None:
    found, expected = TOLD[sentence]
    assert [*found.suggestions()] == expected


CARD: Final = "spec.resources.train.gpu.memory"
CHANGE: Final = re.compile(r"`(\S+): \"?([^`\"]+)\"?`")


@given(
    card=st.integers(1, 60),
    longest=st.lists(st.integers(129, 16_384), min_size=1, max_size=4).map(lambda n: sorted(n, reverse=True)),
    training=st.fixed_dictionaries(
        {
            "precision": st.sampled_from(["bf16", "fp32", "fp8"]),
            "packing": st.sampled_from(["auto", "none"]),
            "batchSize": st.integers(1, 16),
            "lora": st.fixed_dictionaries(
                {
                    "variant": st.sampled_from(["lora", "dora"]),
                    "dropout": st.sampled_from(["0", "0.1"]),
                    "rank": st.sampled_from([8, 64, 1024]),
                }
            ),
        }
    ),
)
def test_with_each_of_them_alone_the_training_fits(
    card: int, longest: list[int], training: dict[str, Any]
) -> None:
    found = recommendations(card, longest, "skip", **training)
    least = smallest(found.shape, found.settings_of(found.training), longest, found.share)
    if least.estimate.total <= found.available:
        return
    for suggestion in found.suggestions():
        change = CHANGE.match(suggestion)
        assert change
        assert fits(found, *change.groups()), suggestion


def fits(found: Recommendations, path: str, value: str) -> bool:
    changed, available = found.training.encode(), found.available
    if path == CARD:
        available = usable(int(value.removesuffix("Gi")) * GIB)
    else:
        *groups, name = path.removeprefix("spec.training.").split(".")
        held = changed[groups[0]] if groups else changed
        held[name] = int(value) if name in ("cutoffLength", "rank") else value
    training = Training.decode(changed)
    longest = [
        min(length, training.cutoff_length if "cutoff" in path else length) for length in found.longest
    ]
    return (
        choose(ranked(training.lora.rank), settings_of(training), longest, found.share, available) is not None
    )


def test_a_base_that_is_quantised_already_is_not_quantised_again() -> None:
    found = recommendations(24, (8192,))
    told = replace(found, shape=replace(found.shape, quantised=0)).suggestions()
    assert not any("quantization" in change for change in told)


def test_a_smaller_card_would_not_do() -> None:
    found = recommendations(1, (2048,))
    *_, last = found.suggestions()
    size = int(last.partition(": ")[2].partition("Gi")[0])
    least = smallest(found.shape, settings_of(found.training), found.longest, found.share).estimate.total
    assert usable(size * GIB) >= least > usable((size - 1) * GIB)
