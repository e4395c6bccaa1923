"""What prepare proves with LLaMA-Factory before a GPU is asked for, and what it leaves behind."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.exports import Publish
from lorafinetune.api.pods import Gpu
from lorafinetune.api.reasons import Reason
from lorafinetune.contract import effort
from lorafinetune.contract.arguments import place
from lorafinetune.contract.extra_args import EXTRA_ARGUMENTS, OWNED, REFUSED
from lorafinetune.contract.outcome import StageError
from stages.peer import GLM_TOKENS, smollm2, tiny_glm
from stages.prepare_builders import EMOLLM, Bench, alpaca, json_lines

pytestmark = pytest.mark.model

IDENTITY = (EMOLLM / "self_cognition_EmoLLM.json").read_bytes()


@pytest.fixture(scope="module")
def model() -> Mapping[str, bytes]:
    return smollm2()


@pytest.fixture
def bench(tmp_path: Path, model: Mapping[str, bytes]) -> Bench:
    return Bench(tmp_path, model).add(IDENTITY, "self.json")


def failure(bench: Bench, template: str | None = None, **training: Any) -> StageError:
    with pytest.raises(StageError) as caught:
        bench.run(template, **training)
    return caught.value


def with_chat_template(model: Mapping[str, bytes], text: str) -> Mapping[str, bytes]:
    return {**model, "chat_template.jinja": text.encode()}


OTHER_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}: {{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{# named SmolLM #}"
)


def test_an_inferred_template_that_renders_otherwise_than_the_model_is_an_error_that_shows_both(
    tmp_path: Path, model: Mapping[str, bytes]
) -> None:
    error = failure(Bench(tmp_path, with_chat_template(model, OTHER_CHAT)).add(IDENTITY))
    assert error.reason is Reason.TEMPLATE_MISMATCH
    assert error.message.splitlines() == [
        "model.template: smollm2 was inferred, but does not fit the model: "
        r"'<|im_start|>system\nAnswer in one word.<|im_end|>\n<|im_star' in place of "
        r"'<|im_start|>system: Answer in one word.<|im_end|>\n<|im_sta'",
        r"  the model's own template: '<|im_start|>system: Answer in one word.<|im_end|>\n"
        r"<|im_start|>user: What is the capital of France?<|im_end|>\n<|im_start|>assistant: Paris.'",
        r"  smollm2: '<|im_start|>system\nAnswer in one word.<|im_end|>\n"
        r"<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\nParis.'",
    ]


def test_a_declared_template_that_renders_otherwise_is_a_warning(
    tmp_path: Path, model: Mapping[str, bytes]
) -> None:
    bench = Bench(tmp_path, with_chat_template(model, OTHER_CHAT)).add(IDENTITY)
    result = bench.run("smollm2")
    assert result.warnings[0] == (
        "template smollm2 differs from the model's own: "
        r"'<|im_start|>system\nAnswer in one word.<|im_end|>\n<|im_star' in place of "
        r"'<|im_start|>system: Answer in one word.<|im_end|>\n<|im_sta'"
    )
    assert set(bench.report(result.key)["templateDifferences"]) == {"model", "template"}


def test_rows_that_were_prepared_with_a_template_that_differs_are_refused_with_both_texts(
    tmp_path: Path, model: Mapping[str, bytes]
) -> None:
    """As they are before they were prepared, once the template is no longer declared."""
    bench = Bench(tmp_path, with_chat_template(model, OTHER_CHAT)).add(IDENTITY)
    first = failure(bench)
    assert not bench.run("smollm2").cache_hit
    again = failure(bench)
    assert (again.reason, again.message, again.hint) == (first.reason, first.message, first.hint)


def test_a_template_whose_tokens_the_model_lacks_is_an_error_even_if_declared(bench: Bench) -> None:
    error = failure(bench, "glm4")
    assert error.reason is Reason.TEMPLATE_MISMATCH
    assert error.message == (
        "model.template: glm4 needs '<|user|>', which is no token of the model's tokenizer"
    )


def test_a_template_for_images_is_an_error(bench: Bench) -> None:
    error = failure(bench, "qwen2_vl")
    assert error.reason is Reason.TEMPLATE_MISMATCH
    assert error.message == (
        "model.template: qwen2_vl can't be used with the model: "
        "Processor was not found, please check and update your model file."
    )


def test_a_model_without_a_chat_template_is_a_warning(tmp_path: Path, model: Mapping[str, bytes]) -> None:
    files = {name: data for name, data in model.items() if name != "chat_template.jinja"}
    result = Bench(tmp_path, files).add(IDENTITY).run("smollm2")
    assert result.warnings[0] == "the model has no chat template of its own to compare the template with"


@pytest.mark.parametrize(
    ("training", "message"),
    [
        pytest.param(
            {"lora": {"targets": ("q_prj",)}},
            "training.lora.targets[0]: the model has no layer 'q_prj': did you mean q_proj? "
            "(it has down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj)",
            id="a target that the model lacks",
        ),
        pytest.param(
            {"lora": {"targets": ("q_proj", "lm_head")}},
            "training.lora.targets[1]: lm_head is the output head, which can't be tuned",
            id="the output head as a target",
        ),
        pytest.param(
            {"lora": {"targets": ("embed_tokens",)}},
            "training.lora.targets[0]: embed_tokens is the input embedding, which can't be tuned",
            id="the input embedding as a target",
        ),
        pytest.param(
            {"learn_from": "lastTurn", "train_on_prompt": True},
            "training: LLaMA-Factory refuses its arguments: "
            "`mask_history` is incompatible with `train_on_prompt`.",
            id="arguments that exclude each other",
        ),
    ],
)
def test_a_training_that_could_not_begin_is_refused(
    bench: Bench, training: dict[str, Any], message: str
) -> None:
    error = failure(bench, **training)
    assert (error.reason, error.message) == (Reason.CONFIG_INVALID, message)


@pytest.mark.parametrize("targets", [("all",), ("q_proj", "v_proj"), ("self_attn.q_proj",)], ids=str)
def test_targets_are_ends_of_the_names_of_layers(bench: Bench, targets: tuple[str, ...]) -> None:
    assert bench.run(lora={"targets": targets}).dataset.rows == 85


def test_an_edit_of_the_training_is_proven_even_if_the_data_is_there(bench: Bench) -> None:
    first = bench.run()
    error = failure(bench, lora={"targets": ("nowhere",)})
    assert error.message.startswith("training.lora.targets[0]: the model has no layer 'nowhere'")
    again = bench.run(lora={"rank": 4})
    assert (first.cache_hit, again.cache_hit) == (False, True)
    assert (again.key, again.dataset) == (first.key, first.dataset)
    assert again.train_key != first.train_key


def test_each_training_has_a_page_with_the_data_report_and_what_was_proven_of_it(bench: Bench) -> None:
    results = [bench.run(lora={"rank": rank}) for rank in (8, 4, 4)]
    report = (bench.store.root / f"prepared/{results[0].key}/report.html").read_text()
    addresses = [result.estimate.report or "" for result in results if result.estimate]
    assert addresses[1] == addresses[2] != addresses[0]
    for address in addresses:
        page = Path(address.removeprefix("file://")).read_text()
        assert "It can train" in page
        assert page.endswith(report.partition("<body>\n")[2])


EXTRA_ARGUMENTS_SET = {
    "adam_beta1": "0.8",
    "adam_beta2": "0.95",
    "adam_epsilon": "1e-7",
    "disable_shuffling": "true",
    "eaft_alpha": "0.5",
    "logging_steps": "3",
    "loraplus_lr_embedding": "1e-5",
    "loraplus_lr_ratio": "16",
    "neftune_noise_alpha": "5",
    "optim": "adafactor",
    "torch_empty_cache_steps": "4",
    "use_dft_loss": "true",
    "use_eaft_loss": "false",
}


def test_llama_factory_accepts_every_extra_argument(bench: Bench) -> None:
    assert set(EXTRA_ARGUMENTS_SET) == set(EXTRA_ARGUMENTS)
    assert bench.run(extra_args=EXTRA_ARGUMENTS_SET).dataset.rows == 85


def test_every_field_of_llama_factorys_dataclasses_is_classified() -> None:
    from llamafactory.hparams.parser import _TRAIN_ARGS

    names = {field.name for parsed in _TRAIN_ARGS for field in dataclasses.fields(parsed) if field.init}
    assert names == {*EXTRA_ARGUMENTS, *OWNED, *REFUSED}


def test_the_result_says_what_the_training_will_take(bench: Bench) -> None:
    bench.gpu = Gpu(memory="8Gi")
    result = bench.run(batch_size=8, epochs="3", evaluation={"fraction": "0.1", "every_steps": 5})
    estimate = result.estimate
    assert estimate is not None
    assert (estimate.steps, estimate.micro_batch, estimate.gradient_checkpointing) == (30, 8, False)
    assert estimate.gpu_memory is not None
    assert 2**30 < estimate.gpu_memory < 6 * 2**30
    assert estimate.disk > bench.model.bytes
    assert bench.run(batch_size=8, epochs="3", evaluation={"fraction": "0.1", "every_steps": 5}) == (
        result.model_copy(update={"cache_hit": True})
    )


def test_held_out_rows_count_by_their_own_length(bench: Bench) -> None:
    """For disk and time, whatever the mean of the others."""
    bench.gpu = Gpu(count=0)
    bench.add(json_lines([alpaca("q" * 20_000, "a")] * 3), "test.jsonl", name="test")
    result = bench.run(cutoff_length=30_000, evaluation={"dataset": "test"})
    held_out, estimate = bench.report(result.key)["evalTokens"], result.estimate
    assert held_out > 3 * 2000
    assert estimate is not None
    assert estimate.disk > bench.model.bytes + effort.TOKEN_BYTES * (result.dataset.tokens + held_out)
    assert estimate.evaluating_seconds > estimate.seconds / 2


@pytest.mark.parametrize(
    ("every_steps", "warned"),
    [pytest.param(1, True, id="after each step"), pytest.param(30, False, id="after the last one")],
)
def test_evaluations_that_take_much_of_the_time_are_a_warning(
    bench: Bench, every_steps: int, warned: bool
) -> None:
    bench.gpu = Gpu(count=0)
    result = bench.run(batch_size=8, epochs="3", evaluation={"fraction": "0.1", "every_steps": every_steps})
    said = [text for text in result.warnings if text.startswith("evaluation takes about ")]
    assert bool(said) == warned


def test_the_steps_of_so_many_tokens_are_counted_also_of_rows_that_are_found(bench: Bench) -> None:
    steps: Mapping[str, Any] = {"packing": "tokens", "cutoff_length": 512, "epochs": "3"}
    made, found = (bench.run(batch_tokens=size, **steps) for size in (2048, 1024))
    assert (made.cache_hit, found.cache_hit) == (False, True)
    assert made.train_key != found.train_key
    for result, size in ((made, 2048), (found, 1024)):
        estimate = result.estimate
        assert estimate is not None
        assert estimate.packs == -(-result.dataset.tokens // size)
        assert estimate.steps == 3 * estimate.packs
    assert bench.run(batch_tokens=1024, **steps) == found


def test_steps_that_have_fewer_tokens_than_they_might_are_a_warning(bench: Bench) -> None:
    bench.add(json_lines([alpaca("why " * 100, "because " * 150)] * 200), "alike.jsonl")
    result, few = (
        bench.run(packing="tokens", cutoff_length=400, batch_tokens=size) for size in (400, 1_000_000)
    )
    (warning,) = [warning for warning in result.warnings if warning.startswith("steps have ")]
    assert warning.endswith("% of training.batchTokens 400: a larger number may fit the rows better")
    tokens = few.dataset.tokens
    assert f"{tokens} tokens to train on are fewer than training.batchTokens 1000000" in few.warnings


def test_a_training_that_cannot_fit_the_declared_card_is_refused_with_what_would(bench: Bench) -> None:
    bench.add(json_lines([alpaca("q", "a"), alpaca("why " * 800, "because " * 800)]), "long.jsonl")
    bench.gpu = Gpu(memory="1536Mi")
    error = failure(bench)
    assert error.reason is Reason.CUDA_OUT_OF_MEMORY
    assert error.message == (
        "resources.train.gpu.memory: the training needs 0.7 GiB at its longest row of 1635 tokens "
        "(weights 0.3 GiB, adapter and optimizer 0.0 GiB, activations 0.1 GiB, logits 0.3 GiB), with one "
        "row at a time and activations computed twice; of 1536Mi it can use 0.4 GiB"
    )
    assert error.hint == (
        "Set `spec.training.cutoffLength: 196` with `onBadRow: skip`, since 5 of 87 rows are longer, "
        "or `spec.resources.train.gpu.memory: 2Gi` for a card of that size."
    )
    bench.gpu = Gpu(memory="2Gi")
    assert bench.run().cache_hit
    bench.gpu = Gpu(memory="1536Mi")
    bench.datasets = [data.model_copy(update={"on_bad_row": "skip"}) for data in bench.datasets]
    assert bench.run(cutoff_length=196).dataset.dropped > 0


def test_a_name_that_the_bases_licence_does_not_allow_is_refused_before_anything_is_read(
    tmp_path: Path, model: Mapping[str, bytes]
) -> None:
    bench = Bench(tmp_path, {**model, "README.md": b"---\nlicense: llama3.2\n---\n"}).add(b"no rows")
    bench.publish = (Publish(to="hf://team/tuned"),)
    refused = failure(bench)
    assert refused.reason is Reason.CONFIG_INVALID
    assert refused.message == (
        "export.publish[0].to: hf://team/tuned: the base model's licence asks for a name that begins with "
        "'Llama': you shall also include “Llama” at the beginning of any such AI model name"
    )
    bench.publish = (Publish(to="hf://team/Llama-tuned"),)
    assert failure(bench).reason is Reason.DATASET_INVALID


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}


def test_a_base_in_4_bits_is_named_where_it_would_fit_and_then_it_does(bench: Bench) -> None:
    bench.add(json_lines([alpaca("q", "a"), alpaca("why " * 800, "because " * 800)]), "long.jsonl")
    bench.gpu = Gpu(memory="1725Mi")
    error = failure(bench)
    assert error.reason is Reason.CUDA_OUT_OF_MEMORY
    assert error.hint.startswith("Set `spec.training.quantization: nf4`, or `spec.training.cutoffLength: ")
    assert bench.run(quantization="nf4").estimate is not None


def test_a_base_that_is_in_4_bits_already_is_not_to_be_put_into_them(
    tmp_path: Path, model: Mapping[str, bytes]
) -> None:
    config = {**json.loads(model["config.json"]), "quantization_config": GPTQ}
    bench = Bench(tmp_path, {**model, "config.json": json.dumps(config).encode()}).add(IDENTITY)
    bench.add(json_lines([alpaca("q", "a"), alpaca("why " * 800, "because " * 800)]), "long.jsonl")
    bench.gpu = Gpu(memory="1725Mi")
    assert failure(bench).hint.startswith("Set `spec.training.cutoffLength: ")


def test_a_training_that_cannot_fit_the_declared_disk_is_refused(bench: Bench) -> None:
    bench.scratch = "1Mi"
    error = failure(bench)
    assert error.reason is Reason.DISK_FULL
    assert error.message.startswith("resources.train.scratch: the training needs 0.1 GiB of disk, ")
    assert error.hint == "Set `spec.resources.train.scratch: 1Gi`."


@pytest.mark.parametrize(
    ("config", "message"),
    [
        pytest.param(
            {"model_type": "nonsense"},
            "model.source: model_type 'nonsense' transformers 5.6.0 does not know",
            id="an unknown architecture",
        ),
        pytest.param(
            {"model_type": "vit"},
            "model.source: model_type 'vit' is no causal language model",
            id="a model of images",
        ),
        pytest.param(
            {"num_hidden_layers": 10**9},
            "model.source: has a config.json whose num_hidden_layers is more than 1024",
            id="a config that would fill the memory",
        ),
    ],
)
def test_an_unsupported_architecture_is_refused(
    tmp_path: Path, model: Mapping[str, bytes], config: dict[str, Any], message: str
) -> None:
    changed = json.dumps(json.loads(model["config.json"]) | config).encode()
    error = failure(Bench(tmp_path, {**model, "config.json": changed}).add(IDENTITY))
    assert (error.reason, error.message) == (Reason.MODEL_UNSUPPORTED, message)


QUERIES = "model.layers.0.self_attn.q_proj.weight"
OTHER_WEIGHTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "one is missing": (
        lambda header: header.pop(QUERIES),
        f"{QUERIES} is missing",
    ),
    "one has another name": (
        lambda header: header.update(other=header.pop(QUERIES)),
        f"{QUERIES} is missing",
    ),
    "one has another shape": (
        lambda header: header[QUERIES].update(shape=[288, 1152]),
        f"{QUERIES} is 288 × 1152, not 576 × 576",
    ),
    "a layer is missing": (
        lambda header: [header.pop(name) for name in [*header] if ".layers.7." in name],
        "model.layers.7.input_layernorm.weight is missing, model.layers.7.mlp.down_proj.weight is missing, "
        "model.layers.7.mlp.gate_proj.weight is missing, and 6 more",
    ),
}


@pytest.mark.parametrize("sentence", OTHER_WEIGHTS)
def test_weights_are_refused_of_which(sentence: str, tmp_path: Path, model: Mapping[str, bytes]) -> None:
    """transformers would put random numbers in their place."""
    change, what = OTHER_WEIGHTS[sentence]
    header = json.loads(model["model.safetensors"][8:])
    change(header)
    changed = json.dumps(header).encode()
    weights = len(changed).to_bytes(8, "little") + changed
    error = failure(Bench(tmp_path, {**model, "model.safetensors": weights}).add(IDENTITY))
    assert (error.reason, error.message) == (
        Reason.MODEL_UNSUPPORTED,
        f"model.source: its weights are not those of its config.json: {what}",
    )


def test_a_broken_tokenizer_is_refused(tmp_path: Path, model: Mapping[str, bytes]) -> None:
    error = failure(Bench(tmp_path, {**model, "tokenizer.json": b"{}"}).add(IDENTITY))
    assert error.reason is Reason.MODEL_UNSUPPORTED
    assert error.message.startswith("model.source: its tokenizer can't be loaded: ")


LONG = alpaca("why " * 4000, "because " * 20)
CUT_ROW = (
    "265 of the 4032 tokens of its prompt are left within training.cutoffLength 288 (the row has 4055 tokens)"
)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        pytest.param(
            LONG, f"(1 prompt cut off)\n  long.jsonl:2: {CUT_ROW}", id="it is cut inside its prompt"
        ),
        pytest.param(
            alpaca("q", "because " * 4000),
            "(1 answer cut off)\n  long.jsonl:2: 256 of the 4003 tokens of its answer are left within "
            "training.cutoffLength 288 (the row has 4035 tokens)",
            id="its only answer is cut",
        ),
    ],
)
def test_a_row_without_a_whole_answer_within_the_cutoff_is_bad(
    bench: Bench, row: dict[str, Any], what: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench.add(json_lines([alpaca("q", "a"), row]), "long.jsonl")
    error = failure(bench, cutoff_length=288)
    assert error.reason is Reason.DATASET_INVALID
    assert error.message == f"datasets[1]: 1 of 2 rows can't be learned from {what}"
    (logged,) = (text for text in caplog.messages if text.startswith("bad row: "))
    assert logged.removeprefix("bad row: datasets[1]: ") in what


def test_it_may_be_skipped_and_then_is_counted(bench: Bench) -> None:
    bench.add(json_lines([alpaca("q", "a"), LONG]), "long.jsonl", on_bad_row="skip")
    result = bench.run(cutoff_length=288)
    assert (result.dataset.rows, result.dataset.dropped) == (86, 1)
    place = f"datasets[1]: long.jsonl:2: {CUT_ROW}"
    assert f"1 of 87 rows were left out as bad, first {place}" in result.warnings
    report = bench.report(result.key)
    assert report["datasets"][1]["dropped"] == {"prompt cut off": 1}
    assert report["badRows"] == [place]


def alone(bench: Bench, rows: list[Any]) -> Bench:
    """With no other dataset, and bad rows left out."""
    bench.datasets[:], bench.dataset_keys[:] = [], []
    return bench.add(json_lines(rows), "long.jsonl", on_bad_row="skip")


def test_where_none_of_the_chosen_rows_is_good_the_first_bad_ones_are_told(bench: Bench) -> None:
    alone(bench, [LONG, alpaca("q", "a")])
    error = failure(bench, cutoff_length=288, max_samples=1)
    assert error.reason is Reason.DATASET_INVALID
    assert error.message == (
        "datasets[0]: 1 of 1 chosen rows can't be learned from, so no row is left to train on "
        f"(1 prompt cut off)\n  long.jsonl:1: {CUT_ROW}"
    )
    assert error.hint == (
        "Mend the rows named in the message, raise `training.cutoffLength`, or have more rows chosen."
    )


def test_a_row_that_is_left_out_is_not_shown_and_no_leak(bench: Bench) -> None:
    good = [alpaca(f"question {number}", f"answer {number}") for number in range(20)]
    alone(bench, [LONG] * 20 + good)
    result = bench.run(cutoff_length=288, evaluation={"count": 10})
    report = bench.report(result.key)
    assert result.dataset.dropped == 20
    assert result.dataset.overlap == 0
    shown = ["".join(piece["text"] for piece in sample) for sample in report["samples"]]
    assert len(shown) == 3
    assert all("question" in text for text in shown)


PARAMETERS = {"type": "object", "properties": {"level": {"type": "integer", "enum": [1, 2]}}}


def test_a_row_whose_tools_the_template_can_not_write_is_bad(bench: Bench) -> None:
    """LLaMA-Factory's templates raise on what they don't expect, each on something else."""
    tools = [{"name": "f", "parameters": PARAMETERS}]
    good = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    rows = json_lines([good, good | {"tools": tools}])
    error = failure(bench.add(rows, "tools.jsonl"))
    assert (error.reason, error.message) == (
        Reason.DATASET_INVALID,
        "datasets[1]: 1 of 2 rows can't be learned from (1 unusable tools)\n  tools.jsonl:2: tools: the "
        "template can't write its tools: sequence item 0: expected str instance, int found",
    )
    bench.add(rows, "more.jsonl", on_bad_row="skip")
    bench.datasets[1:2], bench.dataset_keys[1:2] = [], []
    result = bench.run(max_samples=87)
    assert (result.dataset.rows, result.dataset.dropped) == (86, 1)


def test_that_a_template_writes_the_day_into_rows_with_tools_is_a_warning(tmp_path: Path) -> None:
    tokens = (*GLM_TOKENS, "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    bench = Bench(tmp_path, tiny_glm(["a text"], tmp_path / "model", tokens))
    row = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    tools = [{"name": "f", "parameters": {"properties": {}}}]
    result = bench.add(json_lines([row | {"tools": tools}, row])).run("llama3")
    expected = (
        "1 training rows have tools, and llama3 writes the day of their preparation into them: on another "
        "day they would be other rows"
    )
    assert expected in bench.report(result.key)["warnings"]
    assert not any("the day of" in told for told in bench.run("glm4").warnings)


def test_equal_inputs_give_equal_bytes(tmp_path: Path, model: Mapping[str, bytes]) -> None:
    first, second = (Bench(tmp_path / name, model).add(IDENTITY, "self.json") for name in ("first", "second"))
    training: dict[str, Any] = {"evaluation": {"fraction": "0.1"}, "max_samples": 50, "sampling": "shuffle"}
    results = [bench.run(**training) for bench in (first, second)]
    assert results[0].key == results[1].key
    assert results[0].dataset.digest == results[1].dataset.digest
    assert first.manifest(results[0].key).files == second.manifest(results[1].key).files


PAIR = {"input": "q", "output": "a"}
CUT_LATE = {"conversation": [PAIR, {"input": "why", "output": "because " * 400}]}


def test_the_report_tells_what_became_of_the_rows(bench: Bench) -> None:
    known = json.loads(IDENTITY)[0]
    bench.add(json_lines([CUT_LATE, CUT_LATE]), "long.jsonl")
    bench.add(json_lines([known, alpaca("q", "a")]), "test.jsonl", name="test")
    bench.add(json_lines([alpaca("q", "a")] * 5), "more.jsonl")
    result = bench.run(cutoff_length=288, max_samples=87, evaluation={"dataset": "test"})
    report = bench.report(result.key)
    names = ("source", "formats", "rowsRead", "rows", "evalRows", "repeatedRows", "dropped")
    assert [[dataset[name] for name in names] for dataset in report["datasets"]] == [
        ["s3://raw/0/self.json", {"self.json": "alpaca"}, 85, 85, 0, 1, {}],
        ["s3://raw/1/long.jsonl", {"long.jsonl": "multiTurn"}, 2, 2, 0, 1, {}],
        ["s3://raw/2/test.jsonl", {"test.jsonl": "alpaca"}, 2, 0, 2, 1, {}],
        ["s3://raw/3/more.jsonl", {"more.jsonl": "alpaca"}, 5, 0, 0, 5, {}],
    ]
    assert [entry["upTo"] for entry in report["rowsByLength"]] == [*range(36, 289, 36), None]
    assert sum(entry["rows"] for entry in report["rowsByLength"]) == 89
    assert report["rowsByLength"][-1]["rows"] == report["truncatedRows"] == 2
    assert 0 < report["lostAnswerTokens"] < report["answerTokens"]
    assert report["overlap"] == {"rows": 1, "prompts": 1}
    assert [report[name] for name in ("rows", "evalRows", "tokens", "learnedTokens", "repeatedRows")] == [
        result.dataset.rows,
        result.dataset.eval_rows,
        result.dataset.tokens,
        result.dataset.learned_tokens,
        result.dataset.repeated,
    ]
    assert (result.dataset.truncated, result.dataset.overlap) == (2, 1)
    assert result.dataset.formats == ("alpaca", "multiTurn", "alpaca", "alpaca")
    assert len(report["samples"]) == 3
    assert b"<svg" in (bench.store.read(f"{place('prepared', result.key)}/report.html") or b"")


def test_what_a_person_should_know_of_the_rows_is_a_warning(bench: Bench) -> None:
    bench.add(json_lines([CUT_LATE, CUT_LATE]), "long.jsonl")
    bench.add(json_lines([alpaca("q", "a", system="Be brief.")] * 40), "more.jsonl")
    bench.add(json_lines([alpaca("q", "a"), alpaca("r", "b")]), "left.jsonl")
    result = bench.run(cutoff_length=288, max_samples=127, evaluation={"fraction": "0.5"})
    report = bench.report(result.key)
    overlap = report["overlap"]
    assert overlap["prompts"] >= overlap["rows"] > 5
    assert (
        result.warnings[0]
        == report["warnings"][0]
        == ("no row is used of datasets[3]: see training.maxSamples and training.sampling")
    )
    assert {
        "all answers are equal in datasets[1], datasets[2]",
        f"of {report['evalRows']} held-out rows {overlap['rows']} are trained on too, "
        f"and {overlap['prompts']} have a prompt that is: see training.evaluation.groupBy",
    } <= set(report["warnings"])
    assert report["warnings"][-1].startswith(
        f"2 of 127 rows are cut at training.cutoffLength 288, and lose {report['lostAnswerTokens']} of "
        f"{report['answerTokens']} tokens of all answers; the longest has "
    )


def test_a_row_that_is_cut_may_be_the_only_one(tmp_path: Path, model: Mapping[str, bytes]) -> None:
    result = Bench(tmp_path, model).add(json_lines([CUT_LATE])).run(cutoff_length=288)
    assert (result.dataset.rows, result.dataset.truncated) == (1, 1)


def test_equal_rows_are_left_out_where_that_is_asked(bench: Bench) -> None:
    bench.add(json_lines([alpaca("q", "a")] * 5), "more.jsonl").add(IDENTITY, "self.json")
    result = bench.run(deduplicate="exact")
    report = bench.report(result.key)
    assert [dataset["rows"] for dataset in report["datasets"]] == [84, 1, 0]
    assert (result.dataset.rows, result.dataset.repeated, report["deduplicated"]) == (85, 90, True)
    assert result.warnings[0] == (
        "no row is used of datasets[2]: all equal earlier ones, which training.deduplicate leaves out"
    )


def test_a_named_dataset_is_held_out(bench: Bench) -> None:
    bench.add(json_lines([alpaca("q", "a"), alpaca("r", "b")]), "test.jsonl", name="test")
    result = bench.run(evaluation={"dataset": "test"})
    assert (result.dataset.rows, result.dataset.eval_rows) == (85, 2)


def test_a_sample_shows_which_parts_are_learned(bench: Bench) -> None:
    result = bench.run()
    first, *_ = bench.report(result.key)["samples"]
    assert [piece["learned"] for piece in first] == [False, True]
    assert first[0]["text"].endswith("<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n")
    assert first[1]["text"].startswith("您好，我是EmoLLM")
    assert first[1]["text"].endswith("<|im_end|>\n")


def test_another_default_system_prompt_than_the_models_is_a_warning(bench: Bench) -> None:
    expected = (
        "85 training rows have no system prompt: smollm2 gives them another than the model's own template: "
        r"'nt named SmolLM, trained by Hugging Face.<|im_end|>\n<|im_start|>user\nWhat is the' in place of "
        r"'nt named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\nWhat is the '"
    )
    contradiction = (
        "43 rows without a system prompt answer as EmoLLM, but the default system prompt of smollm2 says "
        "SmolLM: set datasets[].system"
    )
    assert bench.run().warnings == (expected, contradiction)


def test_with_a_system_prompt_in_every_row_the_default_is_no_concern(
    tmp_path: Path, model: Mapping[str, bytes]
) -> None:
    assert Bench(tmp_path, model).add(IDENTITY, system="You are EmoLLM.").run().warnings == ()


def test_the_manifest_says_where_everything_came_from(bench: Bench) -> None:
    result = bench.run(cutoff_length=288)
    lineage = bench.manifest(result.key).lineage
    assert lineage["model"] == bench.model.encode()
    assert [dataset["source"] for dataset in lineage["datasets"]] == ["s3://raw/0/self.json"]
    assert lineage["template"] == "smollm2"
    assert lineage["fields"]["training.cutoffLength"] == 288
    assert lineage["versions"] == {
        "llamafactory": "0.9.5",
        "transformers": "5.6.0",
        "tokenizers": "0.22.2",
    }


def test_the_second_run_is_a_hit(bench: Bench) -> None:
    first = bench.run()
    second = bench.run()
    assert (first.cache_hit, second.cache_hit) == (False, True)
    assert second == first.model_copy(update={"cache_hit": True})
