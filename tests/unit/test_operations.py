"""The page on operations says of an alert what its rule says, and rules ask for what the operator exports."""

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from documents import Typist, fenced, said
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.loglines import JsonFormatter
from lorafinetune.shell.metric_declarations import DECLARED
from telemetry import OF_A_SCRAPE, ROOT, labels_of, metrics_of, rules

PAGE: Final = (ROOT / "docs" / "operations.md").read_text()
RUNBOOKS: Final = dict(re.findall(r"^### (LoRAFineTune\w+)\n\n(.+)$", PAGE, flags=re.MULTILINE))
"""The first line below the heading of each alert."""
EXPORTED: Final = {declared.name: set(declared.labels) for declared in DECLARED} | {"up": set[str]()}

each_rule = pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])


def test_every_alert_is_explained_and_no_other() -> None:
    assert list(RUNBOOKS) == [rule["alert"] for rule in rules()]


@each_rule
def test_the_page_says_of_an_alert_what_its_rule_says(rule: dict[str, Any]) -> None:
    when = f"after {rule['for']}" if "for" in rule else "at once"
    metrics = ", ".join(f"`{name}`" for name in metrics_of(rule["expr"]))
    assert RUNBOOKS[rule["alert"]] == f"`{rule['labels']['severity']}` {when}, by {metrics}."


@each_rule
def test_an_alert_leads_to_its_paragraph(rule: dict[str, Any]) -> None:
    told = rule["annotations"]
    assert told["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
    assert told["summary"]
    assert told["description"]


@each_rule
def test_an_alert_asks_for_what_is_exported(rule: dict[str, Any]) -> None:
    metrics = metrics_of(rule["expr"])
    assert set(metrics) <= EXPORTED.keys()
    known = set[str]().union(*(EXPORTED[name] for name in metrics))
    assert labels_of(rule["expr"]) <= known | OF_A_SCRAPE


@each_rule
def test_the_reasons_that_an_alert_is_about_are_reasons(rule: dict[str, Any]) -> None:
    reasons = {"Queued", *Reason}
    for asked in re.findall(r'reason[=!]~?"(.+?)"', rule["expr"]):
        for pattern in asked.split("|"):
            assert any(re.fullmatch(pattern, reason) for reason in reasons), pattern


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
def test_the_query_of_the_log_finds_the_lines_of_a_stage(tmp_path: Path) -> None:
    """Among lines of another run, of no run, and what no JSON is."""
    fields: tuple[dict[str, str], ...] = (
        {"resource": "smollm2-emollm", "stage": "train"},
        {"resource": "other", "stage": "train"},
        {},
    )
    lines = ["warming up", '{"half', '"text"']
    for number, about in enumerate(fields):
        record = logging.LogRecord("logger", logging.INFO, "", 0, f"line {number}", (), None)
        record.__dict__.update(about, created=0.0)
        lines.append(JsonFormatter().format(record))
    (tmp_path / "operator.log").write_text("\n".join(lines))
    shown = Typist(tmp_path).type(said("docs/operations.md", "Logs"))
    assert shown == "1970-01-01T00:00:00.000Z line 0\n"


def test_the_query_for_loki_asks_for_what_is_in_a_line() -> None:
    (query,) = (text for _, _, text in fenced() if "| json |" in text)
    record = logging.LogRecord("logger", logging.ERROR, "", 0, "message", (), None)
    record.__dict__.update(resource="smollm2-emollm", stage="train")
    line = json.loads(JsonFormatter().format(record))
    asked = dict(re.findall(r'\| (\w+)(?:!=|=)"([^"]*)"', query))
    assert asked == {"resource": line["resource"], "stage": "", "level": line["level"]}
