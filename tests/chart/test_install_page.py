"""The commands of the page on installing, one after the other, as a person would paste them."""

import os
import re
from pathlib import Path

import pytest

from chart.helm import CHARTS
from chart.site import Site
from cluster.build import binary
from cluster.process import run

pytestmark = pytest.mark.apiserver

ROOT = CHARTS.parent
PAGE = ROOT / "docs" / "how-to" / "install.md"


def sections() -> dict[str, str]:
    """The commands below each heading of the page."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.MULTILINE)[1:]
    blocks = [re.findall(r"^```bash\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) for text in parts[1::2]]
    return {title: "".join(found) for title, found in zip(parts[::2], blocks, strict=True)}


def test_every_command_does_what_the_page_says(site: Site) -> None:
    left = {title: paste(site, commands) for title, commands in sections().items()}
    assert {title: sorted(found) for title, found in left.items()} == {
        "The operator": ["lorafinetune-system/lorafinetune"],
        "A namespace for a team": ["lorafinetune-system/lorafinetune", "team-a/tenant"],
        "Limits": ["lorafinetune-system/lorafinetune", "team-a/tenant"],
        "Datasets from web servers": ["lorafinetune-system/lorafinetune", "team-a/tenant"],
        "Several operators": [
            "lorafinetune-system/lorafinetune",
            "team-a/tenant",
            "team-b-operator/lorafinetune",
        ],
        "Upgrade": ["lorafinetune-system/lorafinetune", "team-a/tenant", "team-b-operator/lorafinetune"],
        "Remove": ["team-a/tenant", "team-b-operator/lorafinetune"],
    }
    assert site.get("crd")["items"] == []


def paste(site: Site, commands: str) -> set[str]:
    """Run commands, and list the releases that there are afterwards."""
    programs = [str(Path(binary(name)).parent) for name in ("helm", "kubectl")]
    environment = {
        "KUBECONFIG": str(site.server.kubeconfig),
        "PATH": os.pathsep.join([*programs, os.environ["PATH"]]),
    }
    script = f"cd {ROOT}\nset -e\n{commands}"
    run("bash", "-c", script, environment=environment, name=commands)
    listed = site.helm("list", "--all-namespaces", "--no-headers").splitlines()
    return {"/".join(reversed(line.split()[:2])) for line in listed}
