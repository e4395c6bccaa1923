"""What the chart says of the metrics, for the tests that hold it to the code."""

import re
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
MONITORING: Final = ROOT / "charts" / "lorafinetune" / "monitoring"
ALERTS: Final = MONITORING / "alerts.yaml"
OF_A_HISTOGRAM: Final = re.compile(r"_(bucket|count|sum)$")


def rules() -> list[dict[str, Any]]:
    """Every alert, in the order of the file."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def metrics_of(expression: str) -> list[str]:
    """The metrics that an expression asks for, each once; a histogram by its own name."""
    names = re.findall(r"\b(lorafinetune_\w+|up)\b", _without_texts(expression))
    return list(dict.fromkeys(OF_A_HISTOGRAM.sub("", name) for name in names))


def labels_of(expression: str) -> set[str]:
    """The labels that an expression asks for, or keeps."""
    text = _without_texts(expression)
    asked = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", " ".join(re.findall(r"{(.*?)}", text, re.DOTALL)))
    kept = re.findall(r"\b(?:by|on|without|ignoring)\s*\((.*?)\)", text)
    return {*asked, *(label for each in kept for label in re.findall(r"\w+", each))}


def _without_texts(expression: str) -> str:
    return re.sub(r'"[^"]*"', '""', expression)
