"""The README on one machine, typed as it stands, with a sample that trains for fewer steps."""

import pytest
import yaml

from documents import Typist, checkout, said

pytestmark = pytest.mark.model

SHORT = {"maxSteps: 100": "maxSteps: 6", "everySteps: 25": "everySteps: 3"}


@pytest.fixture(scope="module")
def typist(tmp_path_factory: pytest.TempPathFactory) -> Typist:
    made = Typist(checkout(tmp_path_factory.mktemp("clone"), SHORT))
    made.environment["COLUMNS"] = "300"
    return made


def test_the_demo_tunes_the_real_model_and_compares_it_with_its_base(typist: Typist) -> None:
    demo, _ = said("README.md", "LoRAFineTune").splitlines()
    printed = typist.type(demo)
    kept = typist.folder / "lorafinetune-runs/default/smollm2-emollm/resource.yaml"
    artifacts = yaml.safe_load(kept.read_text())["status"]["artifacts"]
    for made in ("adapter", "merged"):
        assert artifacts[made]["uri"].removeprefix("s3://") in printed
    assert "What is the capital of France?" in printed


def test_one_s_own_is_validated_rendered_and_run(typist: Typist) -> None:
    printed = typist.type(said("README.md", "Run your own, here"))
    assert "lora_target" in printed
    assert printed.count("found in the store") == 4
