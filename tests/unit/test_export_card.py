"""The merged model's card: the licence of its base, whatever the base's card holds."""

import pytest
import yaml

from builders import model, result
from lorafinetune.contract.outcome import TrainResult
from lorafinetune_stages.export.card import merged_card
from lorafinetune_stages.licences import licence_fields

CARDS: dict[str, tuple[bytes, dict[str, str]]] = {
    "a licence by its id": (b"---\nlicense: apache-2.0\ntags: [a]\n---\n# Model", {"license": "apache-2.0"}),
    "a licence of its own": (
        b"---\r\nlicense: other\r\nlicense_name: glm-4\r\nlicense_link: LICENSE\r\n---\r\n",
        {"license": "other", "license_name": "glm-4", "license_link": "LICENSE"},
    ),
    "no card": (b"", {}),
    "no metadata": (b"# Model\n---\nlicense: mit\n---\n", {}),
    "metadata without a licence": (b"---\ntags: [a]\n---\n", {}),
    "metadata that end nowhere": (b"---\nlicense: mit\n", {}),
    "metadata that are no map": (b"---\n- license\n---\n", {}),
    "no metadata between the lines": (b"---\n\n---\n", {}),
    "no YAML": (b"---\nlicense: [\n---\n", {}),
    "a day that is none": (b"---\nlicense: 2020-99-99\n---\n", {}),
    "a list of licences": (b"---\nlicense: [mit, gpl]\n---\n", {}),
    "a licence with a line break": (b'---\nlicense: "mit\\nprivate: false"\n---\n', {}),
    "an object of Python's": (b"---\nlicense: !!python/name:os.system\n---\n", {}),
    "nesting without end": (b"---\nlicense: " + b"[" * 5000 + b"\n---\n", {}),
    "bytes": (b"---\nlicense: \xff\xfe\n---\n", {}),
}


@pytest.mark.parametrize("sentence", CARDS)
def test_licence(sentence: str) -> None:
    card, expected = CARDS[sentence]
    assert licence_fields(card) == expected


def test_the_licence_is_in_the_metadata_of_the_merged_models_card() -> None:
    trained = result("train")
    assert isinstance(trained, TrainResult)
    base = b"---\nlicense: other\nlicense_name: glm-4\n---\n"
    head = merged_card(model(), trained, {}, base).split("---\n")[1]
    assert yaml.safe_load(head) == {
        "base_model": "owner/model",
        "base_model_relation": "finetune",
        "license": "other",
        "license_name": "glm-4",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
    }
