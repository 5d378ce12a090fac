"""The dashboard and the alerts name metrics and labels that the exporter shows, and no others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "docs" / "telemetry"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text("utf-8"))
ALERTS: dict[str, Any] = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))

# Labels that Prometheus itself gives, and the label of a histogram's buckets.
USUAL = {"instance", "job", "le"}

GROUPED = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
MATCHED = re.compile(r"(\w+)\{([^}]*)\}")


def queries() -> Iterator[tuple[str, str]]:
    """Return every expression, with where it stands."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for rule in rules():
        yield rule["alert"], rule["expr"]


def rules() -> list[dict[str, Any]]:
    """Return the alerts."""
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def metrics_in(expr: str) -> set[str]:
    """Return the metrics of an expression."""
    bare = re.sub(r'"[^"]*"', "", expr)
    bare = re.sub(r"\{[^}]*\}", "", GROUPED.sub("", bare))
    return set(re.findall(r"\bpenstock_\w+", bare))


def labels_in(expr: str) -> set[str]:
    """Return the labels that an expression groups by."""
    return {name.strip() for group in GROUPED.findall(expr) for name in group.split(",")}


QUERIES = [*queries()]


@pytest.mark.parametrize("expr", [q[1] for q in QUERIES], ids=[q[0] for q in QUERIES])
def test_a_query_names_what_the_exporter_shows(expr: str, scraped: dict[str, set[str]]):
    """Its metrics exist, and each has the labels that it is chosen and grouped by."""
    metrics = metrics_in(expr)

    assert metrics
    assert metrics <= scraped.keys()
    for metric in metrics:
        assert labels_in(expr) - USUAL <= scraped[metric]
    for metric, matchers in MATCHED.findall(expr):
        labels = set(re.findall(r'(\w+)\s*[=!]~?\s*"', matchers))
        assert labels - USUAL <= scraped[metric]


@pytest.mark.parametrize("expr", [q[1] for q in QUERIES], ids=[q[0] for q in QUERIES])
def test_a_query_is_balanced(expr: str):
    """Every bracket is closed, in order."""
    open_ones: list[str] = []
    for char in re.sub(r'"[^"]*"', "", expr):
        if char in "([{":
            open_ones.append(char)
        elif char in ")]}":
            assert open_ones
            assert open_ones.pop() + char in {"()", "[]", "{}"}
    assert open_ones == []


@pytest.mark.parametrize("expr", [q[1] for q in QUERIES], ids=[q[0] for q in QUERIES])
def test_the_values_that_a_query_looks_for_are_words_of_penstock(expr: str):
    """An outcome or a state that does not exist would never be found."""
    words = {
        "penstock_outcome": {"success", "failure", "rejected", "timeout", "cancelled"},
        "penstock_circuit_state": {"closed", "open", "half_open", "isolated"},
        "penstock_resource_state": {"ready", "full", "cooling", "disabled"},
        "penstock_stage": {"backoff"},
        "penstock_worker_state": {"parked"},
    }

    for label, value in re.findall(r'(\w+)\s*[=!]~?\s*"([^"]*)"', expr):
        if not value.startswith("$"):
            assert set(value.split("|")) <= words[label], label


def test_the_legends_name_labels_that_the_query_leaves():
    """Another one would be empty."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown
            assert shown <= labels_in(target["expr"]), panel["title"]


def test_the_panels_do_not_overlap():
    """Each has a place of its own on a grid of 24 columns, and an id."""
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        place = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not place & cells, panel["title"]
        cells |= place
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_dashboard_asks_for_its_data_source():
    """It can be imported anywhere: every panel and variable uses what was chosen."""
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    sources = [each["datasource"] for each in (*panels, variables["policy"], variables["pool"])]

    assert variables["datasource"]["type"] == "datasource"
    assert {source["uid"] for source in sources} == {"${datasource}"}
    used = set(
        re.findall(r'"\$(\w+)"', json.dumps([p["targets"] for p in panels]).replace("\\", ""))
    )
    assert used == {"policy", "pool"}


def test_the_variables_ask_for_labels_that_exist(scraped: dict[str, set[str]]):
    """Otherwise their lists would be empty."""
    asked = [
        each["definition"] for each in DASHBOARD["templating"]["list"] if "query" in each["type"]
    ]

    for definition in asked:
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", definition)
        assert found
        assert found[2] in scraped[found[1]]
    assert len(asked) == 2


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]):
    """And its sentence names labels that the expression leaves."""
    notes = rule["annotations"]
    named = set(re.findall(r"\$labels\.(\w+)", notes["summary"]))
    left = labels_in(rule["expr"]) or {"penstock_policy_name", "penstock_stage"}

    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert notes["description"].endswith(".")
    assert named
    assert named <= left
    assert re.fullmatch(r"\d+[mh]", rule.get("for", "0m"))


def test_the_alerts_have_names_of_their_own():
    """Prometheus would take two of one name for one."""
    names = [rule["alert"] for rule in rules()]

    assert len(set(names)) == len(names)
    assert all(name.startswith("Penstock") for name in names)
