"""The bill of materials of an image names exactly what goes in, with the digests that are asked for there."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PIN: Final = re.compile(r"^([a-z0-9.-]+)==([^ ;]+)", re.MULTILINE)
WEB: Final = {"gradio", "fastapi", "starlette", "sse-starlette", "uvicorn"}
"""What LLaMA-Factory's web UI and API server are made of."""
DIGEST: Final = re.compile(r"--hash=sha256:(\w+)")


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make sbom` writes."""
    made = tmp_path_factory.mktemp("sbom")
    make, uv = str(shutil.which("make")), Path(sys.executable).with_name("uv")
    subprocess.run([make, "-s", "sbom", f"OUT={made}", f"UV={uv}"], cwd=ROOT, check=True)
    return made / "dist"


@pytest.mark.parametrize("image", ["operator", "download", "train"])
def test_a_bill_names_what_the_image_holds(bills: Path, image: str) -> None:
    bill = json.loads((bills / f"{image}.cdx.json").read_text())
    locked = (ROOT / "images" / image / "requirements.txt").read_text()
    assert bill["bomFormat"] == "CycloneDX"
    assert {(part["name"], part["version"]) for part in bill["components"]} == set(PIN.findall(locked))
    assert digests(bill) >= set(DIGEST.findall(locked))


@pytest.mark.parametrize("image", ["operator", "download", "train"])
def test_an_image_holds_no_web_server_of_others(image: str) -> None:
    locked = (ROOT / "images" / image / "requirements.txt").read_text()
    assert not WEB & dict(PIN.findall(locked)).keys()


def digests(bill: dict[str, Any]) -> set[str]:
    places = [place for part in bill["components"] for place in part["externalReferences"]]
    return {digest["content"] for place in places for digest in place.get("hashes", ())}
