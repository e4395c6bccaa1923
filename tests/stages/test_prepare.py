"""Prepare up to where it needs LLaMA-Factory: bad input is refused, and what is there is found."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.artifacts import Artifact
from lorafinetune.api.datasets import Clean
from lorafinetune.api.pods import Gpu
from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import DatasetStatus, Estimate, TrainingStatus
from lorafinetune.contract import keys
from lorafinetune.contract.arguments import ARGUMENTS_VARIABLE, MESSAGE_VARIABLE, place
from lorafinetune.contract.outcome import PrepareResult, StageError, TrainResult, decode_message
from lorafinetune_stages.prepare.inputs import read_inputs, train_key
from lorafinetune_stages.prepare.output import MAX_REPORT_BYTES, Prepared
from lorafinetune_stages.prepare.proofs import keep_estimate, proof_key
from stages.prepare_builders import COMMIT, MODEL, TINY_MODEL, Bench, alpaca, json_lines

GOOD = alpaca("q", "a")
DIGEST = "d" * 64


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def failure(bench: Bench, template: str | None = None, **training: Any) -> StageError:
    with pytest.raises(StageError) as caught:
        bench.run(template, **training)
    return caught.value


@pytest.mark.parametrize(
    ("files", "fields", "message"),
    [
        pytest.param(b"", {}, "datasets[0]: rows.jsonl: the dataset is empty", id="an empty file"),
        pytest.param(b"[]", {}, "datasets[0]: rows.jsonl: the dataset is empty", id="an empty list"),
        pytest.param(
            json_lines([GOOD, alpaca("q", "")]),
            {},
            "datasets[0]: 1 of 2 rows can't be learned from (1 empty answer)\n"
            "  rows.jsonl:2: output: the answer is empty",
            id="a row without an answer",
        ),
        pytest.param(
            json.dumps([GOOD, alpaca("q", "🐳 ")], indent=1).encode(),
            {"clean": Clean(remove=("🐳",))},
            "datasets[0]: 1 of 2 rows can't be learned from (1 empty answer)\n"
            "  rows.jsonl[1] (line 7): answer 1: nothing is left after cleaning",
            id="an answer that is cleaned away",
        ),
        pytest.param(
            json_lines([alpaca("q", "a<|im_end|>b"), alpaca("a <b> c", "a")]),
            {},
            "datasets[0]: 1 of 2 rows can't be learned from (1 special token in text)\n"
            "  rows.jsonl:1: output: the text has the special token '<|im_end|>'",
            id="a special token of the tokenizer, while its plain ones are text",
        ),
        pytest.param(
            json_lines([alpaca("q", "a<|im_🐳end|>b")]),
            {"clean": Clean(remove=("🐳",))},
            "datasets[0]: 1 of 1 rows can't be learned from (1 special token in text)\n"
            "  rows.jsonl:1: answer 1: the text has the special token '<|im_end|>'",
            id="a special token that cleaning would make",
        ),
        pytest.param(
            json_lines([GOOD]) + b'{"instruction": "q", "output": \n',
            {},
            "datasets[0]: 1 of 2 rows can't be learned from (1 broken JSON)\n"
            "  rows.jsonl:2:31 (byte 79): broken JSON: Expecting value, and the line ends inside of the row",
            id="a broken line",
        ),
        pytest.param(
            json.dumps([GOOD]).encode()[:-3],
            {"on_bad_row": "skip"},
            "datasets[0]: rows.jsonl:1:46 (byte 45): broken JSON: Unterminated string, "
            "and the file ends inside of row [0]",
            id="a cut list, even where bad rows are skipped",
        ),
        pytest.param(
            json_lines([alpaca("q", "")] * 2 + [GOOD]),
            {"on_bad_row": "skip", "max_bad_fraction": "0.5"},
            "datasets[0]: 2 of 3 rows can't be learned from, more than datasets[0].maxBadFraction 0.5 "
            "(2 empty answer)\n"
            "  rows.jsonl:1: output: the answer is empty\n"
            "  rows.jsonl:2: output: the answer is empty",
            id="more bad rows than may be skipped",
        ),
        pytest.param(
            json_lines([GOOD]),
            {"format": "singleTurn"},
            "datasets[0].format: declared singleTurn, but rows.jsonl:1 has the fields instruction, input, "
            "output: looks like alpaca",
            id="the wrong format",
        ),
        pytest.param(
            {"a.txt": b"x", "README.md": b"x"},
            {},
            "datasets[0].source: none of its 2 files is .json, .jsonl, .ndjson, .parquet, .csv",
            id="a directory without rows",
        ),
        pytest.param(
            {"a.json": b"[]", "b.jsonl": b"{}\n", "README.md": b"x"},
            {},
            "datasets[0].format: auto can't tell the format: b.jsonl:1 has no fields: fits no format "
            "(alpaca needs instruction and output; "
            "sharegpt needs conversations, a list of objects with from and value; "
            "openai needs messages, a list of objects with role and content; "
            "singleTurn needs prompt and completion; "
            "multiTurn needs conversation, a list of objects with input and output)",
            id="a second file whose format is unknown",
        ),
    ],
)
def test_bad_data_is_refused_with_its_place(
    bench: Bench, files: bytes | dict[str, bytes], fields: dict[str, Any], message: str
) -> None:
    error = failure(bench.add(files, **fields))
    assert (error.reason, error.message) == (Reason.DATASET_INVALID, message)


def test_a_template_s_stop_word_is_refused_even_if_the_tokenizer_does_not_know_it(bench: Bench) -> None:
    error = failure(bench.add(json_lines([alpaca("<|observation|>", "a")])), template="glm4")
    assert error.message.endswith(
        "rows.jsonl:1: instruction: the text has the special token '<|observation|>'"
    )


def test_a_special_token_in_a_dataset_s_own_system_prompt_is_refused(bench: Bench) -> None:
    error = failure(bench.add(json_lines([GOOD]), system="You are<|im_end|>"))
    assert error.reason is Reason.CONFIG_INVALID
    assert error.message == "datasets[0].system: the text has the special token '<|im_end|>'"


def test_bad_rows_of_every_dataset_are_told_at_once(bench: Bench) -> None:
    bench.add(json_lines([alpaca("q", "")])).add(json_lines([GOOD])).add(json_lines([alpaca("", "a")]))
    assert failure(bench).message.splitlines() == [
        "datasets[0]: 1 of 1 rows can't be learned from (1 empty answer)",
        "  rows.jsonl:1: output: the answer is empty",
        "datasets[2]: 1 of 1 rows can't be learned from (1 empty prompt)",
        "  rows.jsonl:1: instruction: the prompt is empty",
    ]


def test_rows_after_max_samples_are_not_looked_at(bench: Bench) -> None:
    bench.add(json_lines([GOOD, alpaca("q", "")]), max_samples=1).add(json_lines([alpaca("q", "")]))
    assert failure(bench).message.startswith("datasets[1]: 1 of 1 rows can't be learned from")


@pytest.mark.parametrize(
    ("files", "reason", "message"),
    [
        pytest.param(
            {"config.json": b'{"model_type": "chatglm"}'},
            Reason.MODEL_UNSUPPORTED,
            "model.source: model_type 'chatglm' needs remote code, which is never run",
            id="remote code",
        ),
        pytest.param(
            {"config.json": b"{}"},
            Reason.MODEL_UNSUPPORTED,
            "model.source: config.json has no model_type",
            id="no model type",
        ),
        pytest.param(
            {"config.json": b"["},
            Reason.MODEL_UNSUPPORTED,
            "model.source: config.json is not JSON",
            id="a broken config",
        ),
        pytest.param(
            {"tokenizer_config.json": b"[]", "chat_template.jinja": None},
            Reason.MODEL_UNSUPPORTED,
            "model.source: tokenizer_config.json is not a JSON object",
            id="another kind of tokenizer config",
        ),
        pytest.param(
            {"chat_template.jinja": b""},
            Reason.TEMPLATE_MISMATCH,
            "model.template: can't be inferred: the model's own chat template is none, "
            "and its model_type is 'llama'",
            id="no chat template to infer from",
        ),
    ],
)
def test_a_model_that_cannot_be_tuned_is_refused(
    tmp_path: Path, files: dict[str, bytes | None], reason: Reason, message: str
) -> None:
    bench = Bench(tmp_path, {name: data for name, data in (TINY_MODEL | files).items() if data is not None})
    error = failure(bench.add(json_lines([GOOD])))
    assert (error.reason, error.message) == (reason, message)


@pytest.mark.parametrize("kind", ["models", "datasets"])
def test_an_input_that_is_no_longer_whole_is_refused(bench: Bench, kind: str) -> None:
    bench.add(json_lines([GOOD]))
    victim = next(entry.key for entry in bench.store.list(kind) if not entry.key.endswith("manifest.json"))
    bench.store.delete(victim)
    error = failure(bench)
    field = {"models": "model.source", "datasets": "datasets[0].source"}[kind]
    where = "/".join(victim.split("/")[:2])
    assert error.reason is Reason.ARTIFACT_CORRUPT
    assert error.message == (
        f"{field}: {bench.store.uri}/{where} is not complete: files were removed since the download"
    )


def hurt_weights(bench: Bench) -> None:
    """By one bit."""
    key = f"{place('models', keys.source_key(MODEL, COMMIT))}/model.safetensors"
    whole = bench.store.read(key)
    assert whole
    bench.store.write(key, whole[:-1] + bytes([whole[-1] ^ 1]))


def test_weights_that_are_not_what_was_downloaded_are_refused(bench: Bench) -> None:
    """Before anything that takes long is imported."""
    hurt_weights(bench.add(json_lines([GOOD])))
    error = failure(bench)
    assert error.reason is Reason.ARTIFACT_CORRUPT
    assert ": the file model.safetensors does not match manifest.json: " in error.message


def test_weights_are_looked_at_even_where_all_else_is_proven(bench: Bench, tmp_path: Path) -> None:
    bench.add(json_lines([GOOD]))
    note_proven(bench, *finish_preparation(bench))
    hurt_weights(bench)
    assert failure(bench).reason is Reason.ARTIFACT_CORRUPT


OTHERS: dict[str, dict[str, Any]] = {
    "another card": {"gpu": Gpu(count=1, memory="24Gi")},
    "another number of nodes": {"nodes": 2},
    "a base that is split": {"sharding": "fsdp2"},
    "another disk": {"scratch": "10Gi"},
}


@pytest.mark.parametrize("sentence", OTHERS)
def test_what_was_proven_for_one_place_is_not_for_another(bench: Bench, sentence: str) -> None:
    here = bench.add(json_lines([GOOD])).arguments()
    there = here.model_copy(update=OTHERS[sentence])
    assert proof_key(here, DIGEST) == proof_key(here, DIGEST) != proof_key(there, DIGEST)


def test_an_unknown_template_is_refused(bench: Bench) -> None:
    error = failure(bench.add(json_lines([GOOD])), template="smollm3")
    assert error.reason is Reason.TEMPLATE_MISMATCH
    assert error.message == (
        "model.template: LLaMA-Factory has no template 'smollm3': did you mean smollm or smollm2 or mllama?"
    )


def test_an_evaluation_without_rows_is_refused_before_anything_heavy(bench: Bench) -> None:
    error = failure(bench.add(json_lines([GOOD])), evaluation={"fraction": "0.5"})
    assert error.message == "training.evaluation.fraction: 0.5 of 1 rows holds none out"


def finish_preparation(
    bench: Bench, template: str | None = None, report: bytes = b"{}", **prepared: Any
) -> tuple[str, str]:
    """Leaves a prepared dataset as an earlier run did; its key, and the key of a training on it."""
    arguments = bench.arguments(template)
    inputs = read_inputs(arguments, bench.store)
    status = DatasetStatus(
        rows=9, tokens=90, learned_tokens=40, digest=DIGEST, report="file:///elsewhere/report.json"
    )
    result = Prepared(template="smollm2", dataset=status, warnings=("careful",), **prepared)
    bench.put("prepared", inputs.key, {"report.json": report}, result.encode())
    return inputs.key, train_key(inputs, arguments.training)


def finish_training(bench: Bench, key: str) -> TrainResult:
    artifact = Artifact(uri="s3://x/trainings", digest=DIGEST, bytes=1)
    trained = TrainResult(key=key, adapter=artifact, training=TrainingStatus(step=3, total_steps=3))
    bench.put("trainings", key, {"adapter.safetensors": b"x"}, trained.encode())
    return trained


def note_proven(bench: Bench, key: str, training_key: str, **training: Any) -> None:
    """As if the training had been tried with the prepared rows, and was found good."""
    estimate = Estimate(steps=9, seconds=60, disk=1)
    keep_estimate(key, proof_key(bench.arguments(**training), training_key), estimate, bench.store)


WITHOUT_HEAVY_IMPORTS = """
import sys
for name in ("torch", "transformers", "llamafactory", "datasets", "numpy", "jinja2"):
    sys.modules[name] = None
from lorafinetune_stages.__main__ import main
sys.exit(main(["prepare"]))
"""


def run_without_heavy_imports(bench: Bench, tmp_path: Path) -> PrepareResult:
    """The stage's program where an import of what is slow to import fails."""
    message = tmp_path / "message.json"
    variables = {ARGUMENTS_VARIABLE: bench.arguments().model_dump_json(by_alias=True, exclude_none=True)}
    environment = os.environ | variables | {MESSAGE_VARIABLE: str(message)}
    subprocess.run([sys.executable, "-c", WITHOUT_HEAVY_IMPORTS], env=environment, check=True, timeout=60)
    result = decode_message("prepare", message.read_text())
    assert isinstance(result, PrepareResult)
    return result


def test_a_finished_training_is_found_without_slow_imports(bench: Bench, tmp_path: Path) -> None:
    bench.add(json_lines([GOOD]))
    key, training_key = finish_preparation(bench)
    trained = finish_training(bench, training_key)
    result = run_without_heavy_imports(bench, tmp_path)
    assert (result.cache_hit, result.key, result.train_key) == (True, key, training_key)
    assert result.trained == trained
    assert result.warnings == ("careful",)


def test_a_preparation_that_was_proven_is_found_without_importing_torch(bench: Bench, tmp_path: Path) -> None:
    bench.add(json_lines([GOOD]))
    key, training_key = finish_preparation(bench)
    note_proven(bench, key, training_key)
    result = run_without_heavy_imports(bench, tmp_path)
    assert (result.cache_hit, result.trained) == (True, None)
    page = f"{bench.store.uri}/prepared/{key}/proven/{proof_key(bench.arguments(), training_key)}.html"
    assert result.estimate == Estimate(steps=9, seconds=60, disk=1, report=page)


def test_a_hit_names_the_digest_and_the_report_of_the_store_it_was_found_in(bench: Bench) -> None:
    bench.add(json_lines([GOOD]))
    key, training_key = finish_preparation(bench)
    finish_training(bench, training_key)
    dataset = bench.run().dataset
    assert dataset.report == f"{bench.store.uri}/prepared/{key}/report.json"
    assert dataset.digest == bench.manifest(key).digest


def test_a_set_that_is_smaller_than_a_batch_is_a_warning_of_the_training_that_it_is_for(bench: Bench) -> None:
    bench.add(json_lines([GOOD]))
    key, _ = finish_preparation(bench)
    for batch_size, expected in ((9, ()), (10, ("9 training rows are fewer than training.batchSize 10",))):
        inputs = read_inputs(bench.arguments(batch_size=batch_size), bench.store)
        training_key = train_key(inputs, bench.arguments(batch_size=batch_size).training)
        note_proven(bench, key, training_key, batch_size=batch_size)
        assert bench.run(batch_size=batch_size).warnings == ("careful", *expected)


def test_the_size_of_a_step_is_in_the_key_and_the_usual_one_is_meant_where_none_is_given(
    bench: Bench,
) -> None:
    bench.add(json_lines([GOOD]))
    sizes: list[dict[str, Any]] = [
        {},
        {"batch_size": 8},
        {"batch_size": 4},
        {"packing": "tokens", "batch_tokens": 4096},
        {"packing": "tokens", "batch_tokens": 8192},
    ]
    inputs = read_inputs(bench.arguments(), bench.store)
    absent, usual, *others = [train_key(inputs, bench.arguments(**size).training) for size in sizes]
    assert absent == usual
    assert len({usual, *others}) == 4
    assert {read_inputs(bench.arguments(**size), bench.store).key for size in sizes} == {inputs.key}


UNSEEN = (
    "model.template: smollm2 was inferred, but renders conversations otherwise than the model's "
    "own chat template"
)
SEEN = (
    "model.template: smollm2 was inferred, but does not fit the model at datasets[0]: rows.jsonl:1: "
    "'b' in place of 'a'\n  the model's own template: 'a'\n  smollm2: 'b'"
)
DIFFERENCES = {"model": "a", "template": "b", "row": "datasets[0]: rows.jsonl:1"}
REPORTS: dict[str, tuple[bytes, str]] = {
    "has both texts": (json.dumps({"templateDifferences": DIFFERENCES}).encode(), SEEN),
    "has none": (b"{}", UNSEEN),
    "is no JSON": (b"[" * 9999, UNSEEN),
    "is larger than any": (b" " * (MAX_REPORT_BYTES + 1), UNSEEN),
}


@pytest.mark.parametrize("sentence", REPORTS)
def test_a_template_that_differs_is_good_only_where_it_is_declared_whose_report(
    bench: Bench, sentence: str
) -> None:
    report, message = REPORTS[sentence]
    bench.add(json_lines([GOOD]))
    key, training_key = finish_preparation(bench, report=report, template_differs=True)
    note_proven(bench, key, training_key)
    assert bench.run(template="smollm2").cache_hit
    error = failure(bench)
    assert error.reason is Reason.TEMPLATE_MISMATCH
    assert error.message == message


@pytest.mark.parametrize("kind", ["prepared", "trainings"])
def test_a_manifest_with_a_strange_result_is_corrupt(bench: Bench, kind: str) -> None:
    bench.add(json_lines([GOOD]))
    inputs = read_inputs(bench.arguments(), bench.store)
    key = inputs.key
    if kind == "trainings":
        _, key = finish_preparation(bench)
    where = place("prepared" if kind == "prepared" else "trainings", key)
    bench.put("prepared" if kind == "prepared" else "trainings", key, {"a": b"x"}, {})
    error = failure(bench)
    assert error.reason is Reason.ARTIFACT_CORRUPT
    assert error.message.startswith(f"{bench.store.uri}/{where}: the result in its manifest can't be read: ")


@pytest.mark.parametrize(
    ("fields", "same_data", "same_training"),
    [
        pytest.param({}, True, True, id="nothing"),
        pytest.param({"precision": "bf16"}, True, True, id="auto precision spelled out"),
        pytest.param({"learning_rate": "2e-4"}, True, False, id="the learning rate"),
        pytest.param({"cutoff_length": 64}, False, False, id="the cutoff"),
        pytest.param({"seed": 1}, False, False, id="the seed"),
        pytest.param({"checkpoint": {"keep": 9}}, True, True, id="the number of checkpoints"),
    ],
)
def test_what_is_edited_decides_what_is_found(
    bench: Bench, fields: dict[str, Any], same_data: bool, same_training: bool
) -> None:
    bench.add(json_lines([GOOD]))
    before, after = (
        (inputs.key, train_key(inputs, arguments.training))
        for arguments in (bench.arguments(), bench.arguments(**fields))
        for inputs in (read_inputs(arguments, bench.store),)
    )
    assert (before[0] == after[0], before[1] == after[1]) == (same_data, same_training)
