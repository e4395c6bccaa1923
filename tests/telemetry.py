"""What the chart says of the metrics, for the tests that hold it to the code."""

import json
import re
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
MONITORING: Final = ROOT / "charts" / "lorafinetune" / "monitoring"
ALERTS: Final = MONITORING / "alerts.yaml"
DASHBOARD: Final = MONITORING / "dashboard.json"
OF_A_SCRAPE: Final = {"operator", "le"}
"""Labels that the ServiceMonitor gives, and that a histogram has."""
OF_A_HISTOGRAM: Final = re.compile(r"_(bucket|count|sum)$")


def rules() -> list[dict[str, Any]]:
    """Every alert, in the order of the file."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text())


def queries() -> list[tuple[str, dict[str, Any]]]:
    """Every query of the dashboard, with the title of its panel."""
    panels = (panel for panel in dashboard()["panels"] if panel["type"] != "row")
    return [(panel["title"], query) for panel in panels for query in panel["targets"]]


def series_of(expression: str) -> list[str]:
    """The series that an expression asks for, each once."""
    names = re.findall(r"\b(lorafinetune_\w+|process_\w+|up)\b", _without_texts(expression))
    return list(dict.fromkeys(names))


def metrics_of(expression: str) -> list[str]:
    """The same by the names of the metrics, which a histogram has but one of."""
    return list(dict.fromkeys(OF_A_HISTOGRAM.sub("", name) for name in series_of(expression)))


def labels_of(expression: str) -> set[str]:
    """The labels that an expression asks for, or keeps."""
    text = _without_texts(expression)
    asked = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", " ".join(re.findall(r"{(.*?)}", text, re.DOTALL)))
    kept = re.findall(r"\b(?:by|on|without|ignoring)\s*\((.*?)\)", text)
    return {*asked, *(label for each in kept for label in re.findall(r"\w+", each))}


def _without_texts(expression: str) -> str:
    return re.sub(r'"[^"]*"', '""', expression)
