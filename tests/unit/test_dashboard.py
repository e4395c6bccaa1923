"""The dashboard is one that Grafana can lay out, about what the operator really exports."""

import re
from collections.abc import Mapping
from itertools import combinations
from typing import Any, Final

import pytest

import exported
from lorafinetune.shell.metric_declarations import DECLARED
from telemetry import OF_A_SCRAPE, dashboard, labels_of, metrics_of, queries, series_of

EXPORTED: Final[Mapping[str, set[str]]] = exported.labels()
WIDTH: Final = 24
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
AGGREGATES: Final = re.compile(r"\b(sum|max)\b")

TITLES, QUERIES = zip(*queries(), strict=True)
each_query = pytest.mark.parametrize("query", QUERIES, ids=TITLES)


@each_query
def test_a_query_asks_for_what_is_exported(query: dict[str, Any]) -> None:
    names = series_of(query["expr"])
    assert names
    assert set(names) <= EXPORTED.keys()
    assert labels_of(query["expr"]) <= set[str]().union(*(EXPORTED[name] for name in names)) | OF_A_SCRAPE


@each_query
def test_a_query_is_about_the_operators_that_are_chosen(query: dict[str, Any]) -> None:
    assert query["expr"].count("{") == query["expr"].count('{operator=~"$operator"') > 0
    assert query["datasource"] == DATASOURCE


@each_query
def test_a_legend_tells_the_lines_apart(query: dict[str, Any]) -> None:
    named = set(re.findall(r"{{(\w+)}}", query["legendFormat"]))
    kept = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \((.*?)\)", query["expr"])))) - {"le"}
    (one, *_) = series_of(query["expr"])
    assert named == (kept if AGGREGATES.search(query["expr"]) else EXPORTED[one])


def test_every_metric_of_the_operator_is_shown() -> None:
    shown = {name for _, query in queries() for name in metrics_of(query["expr"])}
    assert {declared.name for declared in DECLARED} <= shown


def test_panels_have_numbers_of_their_own_and_say_what_they_show() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    shown = [panel for panel in panels if panel["type"] != "row"]
    assert all(panel["title"] and panel["description"] and panel["targets"] for panel in shown)
    assert all(panel["datasource"] == DATASOURCE for panel in shown)
    for panel in shown:
        names = [query["refId"] for query in panel["targets"]]
        assert len(set(names)) == len(names)


def test_no_two_panels_lie_on_each_other() -> None:
    cells = [_cells(panel["gridPos"]) for panel in dashboard()["panels"]]
    assert [(a, b) for a, b in combinations(range(len(cells)), 2) if cells[a] & cells[b]] == []
    assert all(0 <= x < WIDTH for one in cells for x, _ in one)


def test_variables_are_those_that_queries_use() -> None:
    board = dashboard()
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert set(variables) == {"datasource", "operator"}
    assert variables["operator"]["query"]["query"] == "label_values(lorafinetune_runs, operator)"
    used = set(re.findall(r"\$(\w+)", " ".join(query["expr"] for _, query in queries())))
    assert used <= {"operator", "__rate_interval", "__range"}


def test_it_has_no_identity_of_the_grafana_where_it_was_drawn() -> None:
    board = dashboard()
    assert (board.get("id"), board.get("__inputs"), board["uid"]) == (None, None, "lorafinetune")


def _cells(place: dict[str, int]) -> set[tuple[int, int]]:
    columns = range(place["x"], place["x"] + place["w"])
    return {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
