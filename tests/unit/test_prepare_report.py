"""What is told about the prepared data: the histogram, the warnings, the model's special tokens."""

import json
from collections import Counter
from pathlib import Path

import pytest

from lorafinetune.api.datasets import Dataset
from lorafinetune.api.evaluation import Evaluation
from lorafinetune.api.pods import Gpu
from lorafinetune.api.sources import Storage
from lorafinetune.api.status import Estimate, ModelStatus
from lorafinetune.api.training import Checkpoint, EarlyStopping, Training
from lorafinetune.contract.arguments import PrepareArguments
from lorafinetune.contract.memory import GIB
from lorafinetune_stages.prepare.basemodel import read_base_model, special_tokens
from lorafinetune_stages.prepare.findings import Findings, Kind, RowError
from lorafinetune_stages.prepare.fingerprints import Overlap
from lorafinetune_stages.prepare.lengths import histogram, padding
from lorafinetune_stages.prepare.output import MAX_WARNINGS_BYTES, shorten
from lorafinetune_stages.prepare.page import add_verdict, bars, render
from lorafinetune_stages.prepare.report import Report, SplitSummary
from lorafinetune_stages.prepare.templates import known_templates
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
    ("lengths", "expected"),
    [
        pytest.param([], [], id="no rows"),
        pytest.param([7] * 9, [0.0, 0.0, 0.0], id="rows of one length"),
        pytest.param([1, 3], [0.2, 0.332, 0.333], id="two lengths"),
        pytest.param([1, 300], [0.2, 0.332, 0.333], id="what is over the cutoff is cut first"),
    ],
)
def test_padding_is_what_batches_of_random_rows_would_waste(
    lengths: list[int], expected: list[float]
) -> None:
    found = padding(lengths, cutoff=3 if lengths == [1, 300] else 100)
    assert [entry["share"] for entry in found] == expected
    assert [entry["batch"] for entry in found] == [2, 8, 32][: len(found)]


HOSTILE = "<script>alert('x')</script>"


def report(held_out: int = 7) -> Report:
    findings = Findings([Dataset(source="s3://raw/a")])
    findings.count_rows(0, 1)
    findings.add(0, f"{HOSTILE}.jsonl:3", RowError(Kind.EMPTY_ANSWER, HOSTILE, "the answer is empty"))
    training = SplitSummary(tokens=1234, learned_tokens=567, truncated=1, answer_tokens=99, lost_tokens=9)
    training.rows_by_dataset[0] = 2
    training.lengths.extend([40, 500])
    return Report(
        template="glm4",
        cutoff=80,
        sources=["s3://raw/<a>.jsonl"],
        formats=[{"a.jsonl": "alpaca"}],
        findings=findings,
        repeated=[4],
        deduplicated=True,
        training=training,
        held_out=SplitSummary(rows_by_dataset=Counter({0: held_out})),
        overlap=Overlap(3, 5) if held_out else Overlap(0, 0),
        warnings=[f"careful {HOSTILE}"],
        differences={"model": HOSTILE, "template": "x"},
        samples=[[("<|user|>q", False), (HOSTILE, True)]],
    )


def test_the_page_tells_what_the_report_has_and_runs_nothing(tmp_path: Path) -> None:
    report().write(tmp_path)
    page = (tmp_path / "report.html").read_text()
    for part in (
        "2 rows to train on, 7 held out,",
        "1,234 tokens to train on, of which\n567 are learned",
        ">s3://raw/&lt;a&gt;.jsonl</td>",
        "1 empty answer",
        "4 rows equal an earlier one\nand were left out",
        "3 held-out rows are trained on too, and 5",
        "1 rows are cut at 80 tokens; of\n99 tokens of answers 9 are lost",
        "<mark>&lt;script&gt;",
        "&lt;|user|&gt;q<mark>",
    ):
        assert part in page, part
    assert "<script" not in page
    assert page.count("<rect") == 9
    assert "http" not in page.replace("http-equiv", "")
    assert json.loads((tmp_path / "report.json").read_text())["overlap"] == {"rows": 3, "prompts": 5}


def test_where_nothing_is_held_out_the_page_says_nothing_of_what_is() -> None:
    page = render(report(held_out=0).encode())
    assert "0 held out," in page
    assert "held-out" not in page


def prepare_arguments(training: Training, gpu: Gpu) -> PrepareArguments:
    model = ModelStatus(source="hf://a/b", revision="c", digest="d" * 64, bytes=1)
    return PrepareArguments(
        storage=Storage(uri="s3://bucket"),
        model=model,
        datasets=(),
        dataset_keys=(),
        training=training,
        config={},
        gpu=gpu,
    )


PLAIN = Training(epochs="1")
PACKED = Training(epochs="1", packing="tokens", batch_tokens=4096)
STOPPED = Training(
    epochs="1",
    evaluation=Evaluation(fraction="0.1"),
    checkpoint=Checkpoint(early_stopping=EarlyStopping(patience=2)),
)
CARD = {"gpu_memory": 3 * GIB, "micro_batch": 2, "gradient_checkpointing": True}


@pytest.mark.parametrize(
    ("training", "gpu", "estimate", "said"),
    [
        pytest.param(
            PLAIN,
            Gpu(memory="24Gi"),
            CARD,
            [
                "before a GPU is asked for",
                "<td>1,234</td>",
                "on H100s",
                "3.0 GiB of 24.0 GiB",
                "rows in one pass</td><td>2<",
                "twice, to",
            ],
            id="with a card that is declared",
        ),
        pytest.param(PLAIN, Gpu(), {}, ["not proven, as resources.train.gpu.memory"], id="with any card"),
        pytest.param(
            PLAIN,
            Gpu(count=0),
            {},
            ["on two cores", "1m1s, 1s of it in", "before it begins."],
            id="without a card",
        ),
        pytest.param(PLAIN, Gpu(), {"evaluating_seconds": 0}, [">1m1s</td>"], id="without evaluations"),
        pytest.param(PACKED, Gpu(), {"packs": 99}, ["packs of 4,096 tokens in an epoch"], id="of packs"),
        pytest.param(STOPPED, Gpu(), {}, ["optimizer steps, at most"], id="that may stop early"),
    ],
)
def test_the_page_of_a_training_begins_with_what_was_proven(
    training: Training, gpu: Gpu, estimate: dict[str, int], said: list[str]
) -> None:
    usual = {"steps": 1234, "seconds": 61, "evaluating_seconds": 1, "disk": 1}
    page = render(report().encode())
    proven = Estimate.model_validate(usual | estimate)
    made = add_verdict(page.encode(), proven, prepare_arguments(training, gpu), [HOSTILE]).decode()
    verdict, data = made.split("<h1>Data report</h1>")
    assert "It can train" in verdict
    assert [part for part in said if part not in verdict] == []
    assert "&lt;script&gt;" in verdict
    assert "<script" not in verdict
    assert page.endswith(data)


def test_the_picture_is_as_high_as_its_highest_bar() -> None:
    found = bars([{"upTo": 10, "rows": 4}, {"upTo": 20, "rows": 0}, {"upTo": None, "rows": 1}])
    assert [(bar.height, bar.y, bar.label, bar.over) for bar in found] == [
        (120.0, 0.0, "≤10", False),
        (0.0, 120.0, "≤20", False),
        (30.0, 90.0, "over", True),
    ]
    assert "rect" in render(report().encode())


@pytest.mark.parametrize(
    ("warnings", "expected"),
    [
        pytest.param([], (), id="none"),
        pytest.param(["a", "b"], ("a", "b"), id="all of a few short ones"),
        pytest.param(["x" * 301], ("x" * 297 + "…",), id="a long one is cut"),
        pytest.param(["你" * 100], ("你" * 100,), id="one in Chinese that just fits"),
        pytest.param(["你" * 101], ("你" * 99 + "…",), id="one in Chinese that is cut"),
        pytest.param(["a你" * 101], ("a你" * 74 + "a…",), id="one that is cut between two characters"),
        pytest.param(
            ["你" * 200] * 3 + ["a"],
            (*["你" * 99 + "…"] * 3, "and 1 more, in the report"),
            id="the first three fit in any case",
        ),
    ],
)
def test_warnings_fit_a_termination_message(warnings: list[str], expected: tuple[str, ...]) -> None:
    found = shorten(warnings)
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


def test_a_token_that_says_whose_turn_it_is_is_special_whatever_its_flag(tmp_path: Path) -> None:
    """As DeepSeek's are. Not so what a tokenizer has of its own for words, blanks and thoughts."""
    names = ("<｜User｜>", "<think>", "User", "\n", "[INST]")
    added = [{"content": name, "special": False} for name in names]
    bench = Bench(tmp_path, TINY_MODEL | {"tokenizer.json": json.dumps({"added_tokens": added}).encode()})
    turns = known_templates()["deepseekr1"].turns
    found = special_tokens(bench.store, read_base_model(bench.store, bench.model), turns)
    assert "<｜User｜>" in found
    assert not found & {"<think>", "User", "\n", "[INST]"}
