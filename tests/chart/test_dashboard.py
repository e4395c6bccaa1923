"""The dashboard's queries, as a real Prometheus evaluates them over what the operator really exports."""

import json
from pathlib import Path
from typing import Any

import pytest

import exported
from chart.helm import NAMESPACE, OPERATOR, at, render
from cluster.build import binary
from cluster.process import CommandError, run
from telemetry import dashboard, queries

OURS = f"{NAMESPACE}/lorafinetune"
OF_GRAFANA = {"$operator": OURS, "$__rate_interval": "5m", "$__range": "6h"}
MAP = "ConfigMap/lorafinetune-dashboard"
SHOWN = {"dashboard": {"enabled": True}}


def test_the_chart_brings_it_as_it_is_to_where_grafana_looks() -> None:
    objects = render(OPERATOR, SHOWN)
    assert json.loads(at(objects, f"{MAP}: data.lorafinetune~json")) == dashboard()
    assert at(objects, f"{MAP}: metadata.labels.grafana_dashboard") == "1"
    assert at(render(OPERATOR), MAP) is None


def test_it_may_have_the_label_that_another_grafana_looks_for() -> None:
    objects = render(OPERATOR, {"dashboard": {"enabled": True, "labels": {"dashboards": "yes"}}})
    assert at(objects, f"{MAP}: metadata.labels.dashboards") == "yes"


def test_every_query_finds_something(tmp_path: Path) -> None:
    shows = [{"expr": f"count({one}) > bool 0", "eval_time": "7h", "exp_samples": [FOUND]} for one in typed()]
    evaluate(tmp_path, shows)


def test_a_query_about_a_label_that_there_is_not_finds_nothing(tmp_path: Path) -> None:
    wrong = 'count(lorafinetune_runs{phase="Running"}) > bool 0'
    with pytest.raises(CommandError, match="got: nil"):
        evaluate(tmp_path, [{"expr": wrong, "eval_time": "7h", "exp_samples": [FOUND]}])


FOUND = {"labels": "{}", "value": 1}


def typed() -> list[str]:
    """The queries with the variables of Grafana in place."""
    found = []
    for _, query in queries():
        text = str(query["expr"])
        for variable, value in OF_GRAFANA.items():
            text = text.replace(variable, value)
        found.append(text)
    return found


def evaluate(folder: Path, expected: list[dict[str, Any]]) -> None:
    """Asks a Prometheus that has read the operator for seven hours, all of whose numbers rise."""
    series = [
        {"series": sample.name + label_text(sample.labels | {"operator": OURS}), "values": "1+1x420"}
        for sample in exported.samples()
    ]
    case = {"interval": "1m", "input_series": series, "promql_expr_test": expected}
    file = folder / "test.json"
    file.write_text(json.dumps({"evaluation_interval": "1m", "tests": [case]}))
    run(str(binary("promtool")), "test", "rules", str(file))


def label_text(labels: dict[str, str]) -> str:
    return "{" + ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items()) + "}"
