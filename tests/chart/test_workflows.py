"""The forge's workflows: nothing is wrong with them, what they use is pinned, and `make` does the work."""

import re
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from cluster.build import binary
from cluster.process import CommandError, run
from documents import ROOT

WORKFLOWS: Final = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
MAKEFILE: Final = (ROOT / "Makefile").read_text()

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]


def actionlint(*workflows: Path) -> None:
    """Looks at their scripts of shells too."""
    shellcheck = Path(sys.executable).with_name("shellcheck")
    run(str(binary("actionlint")), f"-shellcheck={shellcheck}", "-pyflakes=", *map(str, workflows))


def test_actionlint_and_shellcheck_have_nothing_to_complain_of() -> None:
    actionlint(*WORKFLOWS)


def test_a_fault_of_a_script_is_found(tmp_path: Path) -> None:
    step = {"run": "rm -r $1"}
    job = {"runs-on": "ubuntu-latest", "steps": [step]}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump({"on": "push", "jobs": {"one": job}}))
    with pytest.raises(CommandError, match="SC2086"):
        actionlint(tmp_path / "one.yaml")


@each_workflow
def test_every_action_is_pinned_by_its_commit_and_says_its_version(path: Path) -> None:
    used = re.findall(r"uses: (.*)$", path.read_text(), flags=re.MULTILINE)
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", one)] == []


@each_workflow
def test_what_it_makes_there_is_to_make(path: Path) -> None:
    targets = {target for step in steps(path) for target in re.findall(r"\bmake (\w+)", step.get("run", ""))}
    assert targets
    assert targets <= set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE))


@each_workflow
def test_no_word_of_a_stranger_stands_in_a_script(path: Path) -> None:
    assert [step["run"] for step in steps(path) if "${{" in step.get("run", "")] == []


@each_workflow
def test_it_has_no_right_that_its_jobs_do_not_name(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}
