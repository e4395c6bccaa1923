"""How the base model is named for the world: never by a path."""

import pytest

from lorafinetune.api.status import ModelStatus
from lorafinetune.contract.names import base_name, base_revision


@pytest.mark.parametrize(
    ("source", "name", "revision"),
    [
        pytest.param("hf://owner/model", "owner/model", "c0ffee", id="Hugging Face"),
        pytest.param("modelscope://owner/model", "owner/model", "c0ffee", id="ModelScope"),
        pytest.param("s3://bucket/models/glm", "s3://bucket/models/glm", None, id="S3"),
        pytest.param("file:///home/me/models/glm/", "glm", None, id="a local directory"),
    ],
)
def test_the_name(source: str, name: str, revision: str | None) -> None:
    model = ModelStatus(source=source, revision="c0ffee", digest="d" * 64, bytes=1)
    assert (base_name(model), base_revision(model)) == (name, revision)
