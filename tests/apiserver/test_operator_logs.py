"""What an operator logs in JSON: each line about a run has the fields by which it is found."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from apiserver.operating import Namespace, Object, Operator
from lorafinetune.contract.loglines import LOG_ABOUT, LOG_FORMAT


@pytest.fixture
def talking(identity: Path, own_namespace: Namespace, tmp_path: Path) -> Iterator[Operator]:
    """An operator that logs for machines."""
    made = Operator(identity, tmp_path / "operator.log", own_namespace.name, **{LOG_FORMAT: "json"})
    made.start()
    yield made
    made.stop()


def lines(operator: Operator, name: str) -> list[Object]:
    told = [json.loads(line) for line in operator.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in told if line.get("resource") == name]


def test_each_line_about_a_run_says_which_and_which_stage(
    talking: Operator, own_namespace: Namespace
) -> None:
    run = own_namespace.apply("tune")
    own_namespace.finish_all("tune")
    own_namespace.told("tune", "Complete")
    told = lines(talking, "tune")
    about = {(line["namespace"], line["uid"]) for line in told if "uid" in line}
    assert about == {(own_namespace.name, run["metadata"]["uid"])}
    created = [line["stage"] for line in told if line["message"].startswith("created Job")]
    assert created == ["download", "prepare", "train", "export"]
    assert any(line["message"].startswith("Complete: ") for line in told)


def test_the_stages_are_told_to_log_so_too(talking: Operator, own_namespace: Namespace) -> None:
    run = own_namespace.apply("tune")
    (container,) = own_namespace.job("tune", "download")["spec"]["template"]["spec"]["containers"]
    given = {each["name"]: each.get("value") for each in container["env"]}
    assert given[LOG_FORMAT] == "json"
    assert given[LOG_ABOUT] == f"{own_namespace.name}/tune/{run['metadata']['uid']}"
