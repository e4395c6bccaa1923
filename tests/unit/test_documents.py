"""Every command of the documentation is typed by a test, and every right to write is told."""

import os
import re
from pathlib import Path
from typing import Final

import pytest
import yaml

from builders import resource
from documents import DOCUMENTS, ROOT, Typist, fenced, places, said
from lorafinetune.api.codec import decode
from lorafinetune.contract.https import ANYWHERE
from lorafinetune.core.checks import first_violation
from lorafinetune.core.jobs import Settings

TESTS: Final = Path(__file__).parents[1]
RULES: Final = ROOT / "charts/lorafinetune/templates/_rules.tpl"
READING: Final = {"get", "list", "watch"}
SAID: Final = re.compile(r'said\(\s*"([^"]+)",\s*"([^"]+)"(?:,\s*(\d+))?')


def test_every_block_of_commands_is_taken_from_its_page_by_a_test() -> None:
    typed = {
        (document, heading, int(position or 0))
        for path in TESTS.rglob("test_*.py")
        for document, heading, position in SAID.findall(path.read_text())
    }
    assert typed == set(places())


@pytest.mark.parametrize(
    "command",
    [said("README.md", "LoRAFineTune").splitlines()[1], said("docs/tutorial.md", "Clean up")],
    ids=["all tests", "the end of the cluster, in which other tests may be"],
)
def test_make_knows_what_is_not_typed(command: str) -> None:
    """It prints what it would do, and every target that this leads to is one."""
    assert Typist(ROOT).type(command, changed={"make ": "make --dry-run "})


def test_links_lead_from_the_readme_to_every_page() -> None:
    """The site's navigation has all of them (test_site.py); whoever reads in the forge has links alone."""
    assert set(DOCUMENTS) - reached("README.md") == set()


def reached(start: str) -> set[str]:
    """The pages to which links lead from one, over whatever others."""
    found, left = {start}, [start]
    while left:
        page = left.pop()
        for link in re.findall(r"\]\(([^)\s:#]+\.md)(?:#[^)\s]*)?\)", (ROOT / page).read_text()):
            target = os.path.normpath(Path(page).parent / link)
            if target not in found:
                found.add(target)
                left.append(target)
    return found


def test_no_block_is_in_a_language_that_no_test_reads() -> None:
    """`console` is in the generated reference alone."""
    assert {language for _, language, _ in fenced()} == {"bash", "yaml", "console", ""}


EXAMPLES: Final = [(page, text) for page, language, text in fenced() if language == "yaml"]


@pytest.mark.parametrize("text", [text for _, text in EXAMPLES], ids=[page for page, _ in EXAMPLES])
def test_every_block_of_yaml_is_a_resource_or_a_part_of_one(text: str) -> None:
    """One that the operator, or a run on this machine, would begin with."""
    found = yaml.safe_load(text)
    shown = decode(found) if "apiVersion" in found else resource(found.get("spec", found))
    assert first_violation(shown, Settings(local=True, https=ANYWHERE)) is None


def test_the_readme_s_commands_on_a_cluster_are_the_tutorial_s() -> None:
    """The tutorial's are typed on a real one."""
    tutorial = "docs/tutorial.md"
    steps = [("The cluster", 0), ("The operator", 0), *(("The fine-tuning", number) for number in range(3))]
    assert said("README.md", "On a cluster") == "".join(said(tutorial, *step) for step in steps)
    assert said("README.md", "On a cluster", 1) == said(tutorial, "The model")


def test_the_tutorial_serves_the_model_as_the_page_on_serving_does() -> None:
    """That page's commands are typed where Ollama is."""
    assert said("docs/tutorial.md", "Serve it") == said("docs/how-to/serve.md", "Ollama")


def test_the_page_on_security_names_all_that_the_operator_may_write() -> None:
    rules = yaml.safe_load(between('"lorafinetune.rules" -}}', "{{- end", RULES))
    written = {kind for rule in rules if {*rule["verbs"]} - READING for kind in rule["resources"]}
    assert written >= {"jobs", "services", "configmaps", "events", "lorafinetunes/status"}
    page = between("## Who is trusted with what", "\n## ", ROOT / "docs/security.md").lower()
    assert {kind for kind in written if kind.split("/")[-1] not in page} == set()


def between(start: str, end: str, path: Path) -> str:
    return path.read_text().split(start, 1)[1].split(end, 1)[0]
