"""Templates: which names there are, and what a model's own files say about the one that fits."""

import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.chat_templates import CHAT_TEMPLATES
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.templates import CLUES, known_templates, resolve_template

CHATML = "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'}}"


@pytest.mark.parametrize(
    ("model_type", "chat_template", "expected"),
    [
        pytest.param("llama", CHATML + "a helpful AI assistant named SmolLM", "smollm2", id="SmolLM2"),
        pytest.param("glm", "[gMASK]<sop>{% for item in messages %}<|user|>", "glm4", id="glm-4-9b-chat-hf"),
        pytest.param("glm4", "[gMASK]<sop><|user|>", "glm4", id="GLM-4-0414"),
        pytest.param("glm4", "[gMASK]<sop><|user|><think>", "glmz1", id="GLM-Z1"),
        pytest.param("qwen2", CHATML + "You are Qwen", "qwen", id="Qwen2.5"),
        pytest.param("qwen3", CHATML + "enable_thinking <think>", "qwen3", id="Qwen3"),
        pytest.param("qwen3", CHATML, "qwen3_nothink", id="Qwen3-Instruct-2507"),
        pytest.param("qwen2", "<｜User｜> <think>", "deepseekr1", id="DeepSeek-R1-Distill"),
        pytest.param("llama", "<|start_header_id|> <|eot_id|>", "llama3", id="Llama 3"),
        pytest.param("mistral", "[INST]", "mistral", id="Mistral"),
        pytest.param("phi3", "<|im_start|><|im_sep|>", "phi4", id="Phi-4"),
        pytest.param("gemma2", "<start_of_turn>", "gemma2", id="Gemma 2"),
    ],
)
def test_a_template_is_inferred_from_the_models_files(
    model_type: str, chat_template: str, expected: str
) -> None:
    assert resolve_template(None, {"model_type": model_type}, chat_template) == expected


@pytest.mark.parametrize(
    ("model_type", "chat_template", "what"),
    [
        pytest.param("llama", "", "none, and its model_type is 'llama'", id="no chat template"),
        pytest.param(
            "llama", CHATML, "one that is not recognised, and its model_type is 'llama'", id="an unknown one"
        ),
        pytest.param(
            "mistral",
            "[INST][SYSTEM_PROMPT]",
            "one that is not recognised, and its model_type is 'mistral'",
            id="one that two templates could fit",
        ),
    ],
)
def test_nothing_is_guessed(model_type: str, chat_template: str, what: str) -> None:
    with pytest.raises(StageError) as caught:
        resolve_template(None, {"model_type": model_type}, chat_template)
    assert caught.value.reason is Reason.TEMPLATE_MISMATCH
    assert (
        caught.value.message == f"model.template: can't be inferred: the model's own chat template is {what}"
    )


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        pytest.param("glm-4", "'glm-4': did you mean glm4 or glm4v or glm4_7?", id="a near miss"),
        pytest.param("zzz", "'zzz'", id="something else"),
    ],
)
def test_an_unknown_template_is_refused(declared: str, message: str) -> None:
    with pytest.raises(StageError) as caught:
        resolve_template(declared, {}, "")
    assert caught.value.message == f"model.template: LLaMA-Factory has no template {message}"


def test_a_declared_template_is_taken_as_it_is() -> None:
    assert resolve_template("glm4", {"model_type": "llama"}, CHATML) == "glm4"


def test_every_template_that_can_be_inferred_exists() -> None:
    assert {clue.template for clue in CLUES} <= set(known_templates())


def test_the_names_that_need_no_source_are_those_of_the_source() -> None:
    assert known_templates().keys() == CHAT_TEMPLATES


MARKERS: Final = {
    "glm4": ("<|user|>", "<|observation|>", "<|assistant|>"),
    "qwen3_5": ("<|im_end|>", "<image>", "<video>", "<audio>", "<|im_start|>"),
    "mistral": ("[INST]", "[/INST]"),
    "zephyr": ("<|user|>", "<|assistant|>"),
    "vicuna": (),
}


@pytest.mark.parametrize("template", MARKERS)
def test_stop_words_placeholders_and_what_says_who_speaks_are_markers(template: str) -> None:
    assert known_templates()[template].markers == MARKERS[template]


def test_the_names_are_read_without_an_import() -> None:
    source = Path(str(distribution("llamafactory").locate_file("llamafactory/data/template.py"))).read_text()
    assert len(known_templates()) == source.count("\nregister_template(")
    modules: dict[str, Any] = sys.modules
    assert "llamafactory" not in modules or "llamafactory.data.template" in modules
