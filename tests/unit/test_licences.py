"""Names of published models that the licence of their base does not allow, by what is known of it."""

from pathlib import Path

import pytest

from builders import sha
from lorafinetune.api.exports import Publish
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.licences import RULES, check_names
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.manifest import commit_manifest
from lorafinetune_stages.store.transfer import upload_tree

LLAMA_3_1 = "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT\nLlama 3.1 Version Release Date: July 23, 2024\n"
LLAMA_3 = "META LLAMA 3 COMMUNITY LICENSE AGREEMENT\n\nMeta Llama 3 Version Release Date: April 18, 2024\n"
GLM = "The glm-4-9b License\n\n1. Definitions\n"
CARD = "---\nlicense: {}\n---\n# A model\n"
OWN_CARD = "---\nlicense: other\nlicense_name: {}\nlicense_link: LICENSE\n---\n# A model\n"

CASES: dict[str, tuple[dict[str, str], str, str | None]] = {
    "Llama 3 by its card": ({"README.md": CARD.format("llama3")}, "hf://o/tuned", "hf://o/Llama-3-tuned"),
    "Llama 3 by its text": ({"LICENSE": LLAMA_3}, "hf://o/tuned", "hf://o/Llama-3-tuned"),
    "Llama 3 asks for its number": (
        {"LICENSE": LLAMA_3},
        "hf://o/Llama-tuned",
        "hf://o/Llama-3-Llama-tuned",
    ),
    "Llama 3, and a name that is right": ({"LICENSE": LLAMA_3}, "hf://o/Llama-3-8B-tuned", None),
    "no blank is asked for": ({"LICENSE": LLAMA_3}, "hf://o/llama3-tuned", None),
    "Llama 3.1 by its text": ({"LICENSE.txt": LLAMA_3_1}, "hf://o/tuned", "hf://o/Llama-tuned"),
    "Llama 3.2 by its card": (
        {"README.md": CARD.format("llama3.2")},
        "modelscope://o/t",
        "modelscope://o/Llama-t",
    ),
    "Llama 3.3, and a name that is right": ({"README.md": CARD.format("llama3.3")}, "hf://o/Llama-x", None),
    "Llama 4 by its card": ({"README.md": CARD.format("llama4")}, "hf://o/my-llama", "hf://o/Llama-my-llama"),
    "GLM-4 by its card": (
        {"README.md": OWN_CARD.format("glm-4")},
        "modelscope://emollm/emollm",
        "modelscope://emollm/glm-4-emollm",
    ),
    "GLM-4 by its text": ({"LICENSE": GLM}, "hf://o/emollm", "hf://o/glm-4-emollm"),
    "GLM-4, and a name that is right": ({"LICENSE": GLM}, "modelscope://emollm/glm-4-9b-emollm", None),
    "the owner's name is none of the model's": ({"LICENSE": GLM}, "hf://glm-4/x", "hf://glm-4/glm-4-x"),
    "a bucket has no name of a model": ({"LICENSE": GLM}, "s3://models/x", None),
    "Llama 2 asks for no name": ({"LICENSE": "LLAMA 2 COMMUNITY LICENSE AGREEMENT"}, "hf://o/x", None),
    "GLM-4.5 is under another licence": (
        {"README.md": CARD.format("mit"), "LICENSE": "MIT"},
        "hf://o/x",
        None,
    ),
    "a licence that we don't know": ({"README.md": OWN_CARD.format("mine")}, "hf://o/x", None),
    "no licence": ({"config.json": "{}"}, "hf://o/x", None),
    "another licence is spoken of further on": ({"LICENSE": "x" * 5000 + LLAMA_3}, "hf://o/x", None),
}


@pytest.mark.parametrize("sentence", CASES)
def test_a_name_of(sentence: str, tmp_path: Path) -> None:
    files, target, proposal = CASES[sentence]
    store, place = DirectoryStore(tmp_path / "store"), "models/m"
    for name, text in files.items():
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / name).write_text(text)
    there = upload_tree(store, tmp_path / "model", place)
    model = commit_manifest(store, place, "models", sha("m"), there, {}, None)
    publish = (Publish(to="s3://models/other"), Publish(to=target))
    if proposal is None:
        check_names(store, place, model, publish)
        return
    with pytest.raises(StageError) as refused:
        check_names(store, place, model, publish)
    assert refused.value.reason is Reason.CONFIG_INVALID
    assert refused.value.message.startswith(f"export.publish[1].to: {target}: the base model's licence asks ")
    assert refused.value.hint == f"Set `spec.export.publish[1].to` to `{proposal}`, for example."
    check_names(store, place, model, (Publish(to=proposal),))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.prefix)
def test_what_is_proposed_is_allowed(rule: object) -> None:
    assert rule in RULES
    for known in RULES:
        assert known.allows(known.proposal("x"))
        assert not known.allows("x")
