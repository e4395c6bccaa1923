"""What is told about the prepared data: the histogram, the warnings, the model's special tokens."""

import json
from pathlib import Path

import pytest

from lorafinetune_stages.prepare.basemodel import read_base_model, special_tokens
from lorafinetune_stages.prepare.output import MAX_WARNINGS_BYTES, shortened
from lorafinetune_stages.prepare.report import histogram
from stages.prepare_builders import TINY_MODEL, Bench


def test_rows_are_counted_by_length_up_to_and_over_the_cutoff() -> None:
    found = histogram([1, 10, 11, 79, 80, 81, 5000], cutoff=80)
    assert [(entry["upTo"], entry["rows"]) for entry in found] == [
        (10, 2),
        (20, 1),
        (30, 0),
        (40, 0),
        (50, 0),
        (60, 0),
        (70, 0),
        (80, 2),
        (None, 2),
    ]


@pytest.mark.parametrize(
    ("warnings", "expected"),
    [
        pytest.param([], (), id="none"),
        pytest.param(["a", "b"], ("a", "b"), id="all of a few short ones"),
        pytest.param(["x" * 301], ("x" * 299 + "…",), id="a long one is cut"),
        pytest.param(["你" * 200] * 3, ("你" * 200, "and 2 more, in the report"), id="as many as fit"),
    ],
)
def test_warnings_fit_a_termination_message(warnings: list[str], expected: tuple[str, ...]) -> None:
    found = shortened(warnings)
    assert found == expected
    assert sum(len(warning.encode()) for warning in found) <= MAX_WARNINGS_BYTES + 40


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, {"<|im_end|>"}, id="marked ones of tokenizer.json"),
        pytest.param(
            {
                "tokenizer.json": {},
                "tokenizer_config.json": {
                    "eos_token": "</s>",
                    "bos_token": {"content": "<s>"},
                    "unk_token": None,
                    "added_tokens_decoder": {
                        "9": {"content": "<pad>", "special": True},
                        "10": {"content": "<think>", "special": False},
                    },
                },
            },
            {"</s>", "<s>", "<pad>"},
            id="those of the tokenizer's configuration",
        ),
        pytest.param(
            {"tokenizer.json": {"added_tokens": ["x", {"special": True}, {"special": True, "content": 1}]}},
            set(),
            id="nothing out of strange files",
        ),
    ],
)
def test_special_tokens_are_read_from_the_models_files(
    tmp_path: Path, files: dict[str, object], expected: set[str]
) -> None:
    changed = {name: json.dumps(content).encode() for name, content in files.items()}
    bench = Bench(tmp_path, TINY_MODEL | changed)
    assert special_tokens(bench.store, read_base_model(bench.store, bench.model)) == expected
