"""What a real Prometheus answers that scrapes a program which calls under policies."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

FOLDER = Path(__file__).parents[3] / "docs" / "telemetry"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text("utf-8"))


def panels() -> Iterator[Any]:
    """Return the dashboard's queries as Grafana would send them, each with its title."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            expr = target["expr"].replace("$__rate_interval", "30s")
            title = f"{panel['title']} {target['refId']}"
            yield pytest.param(re.sub(r"\$\w+", ".*", expr), id=title)


def test_prometheus_takes_the_alerts(debian_prometheus: dict[str, str]):
    """Expressions and templates are checked by its own tool."""
    checked = subprocess.run(
        [debian_prometheus["promtool"], "check", "rules", str(FOLDER / "alerts.yml")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "12 rules found" in checked.stdout


def test_calls_have_a_rate(prometheus: Any):
    """By how they ended: one policy's come through, the other's are refused by its circuit."""
    rate = "sum by (penstock_policy_name, penstock_outcome) (rate({}[30s])) > 0"
    labels = ("penstock_policy_name", "penstock_outcome")

    rates = prometheus.values(rate.format("penstock_call_duration_seconds_count"), *labels)

    assert rates.keys() >= {("search", "success"), ("mail", "rejected")}
    assert ("mail", "success") not in rates


def test_durations_have_quantiles(prometheus: Any):
    """A call that waits for three others of 20 ms takes at least as long as its own attempt."""
    quantile = "histogram_quantile(0.9, sum by (le) (rate({}[30s]))) > 0"
    of_search = '{penstock_policy_name="search"}'

    (call,) = prometheus.values(
        quantile.format(f"penstock_call_duration_seconds_bucket{of_search}")
    ).values()
    (attempt,) = prometheus.values(
        quantile.format(f"penstock_attempt_duration_seconds_bucket{of_search}")
    ).values()

    assert 0.01 <= attempt <= call <= 10


def test_resources_are_counted_by_state(prometheus: Any):
    """One of three keys rests, one is disabled; the pool that is spent has nobody."""
    by_state = (
        'sum by (penstock_resource_state) (penstock_resource_state{{penstock_pool_name="{}"}})'
    )

    none = {("full",): 0, ("probing",): 0, ("away",): 0}
    keys = prometheus.values(by_state.format("keys"), "penstock_resource_state")
    spent = prometheus.values(by_state.format("spent"), "penstock_resource_state")

    assert keys == {**none, ("ready",): 1, ("cooling",): 1, ("disabled",): 1}
    assert spent == {**none, ("ready",): 0, ("cooling",): 0, ("disabled",): 1}


def test_a_circuit_is_in_one_state(prometheus: Any):
    """1 for that one, 0 for the others."""
    states = prometheus.values(
        'penstock_circuit_state{penstock_circuit_name="mail"}', "penstock_circuit_state"
    )

    assert states == {("closed",): 0, ("open",): 1, ("half_open",): 0, ("isolated",): 0}


@pytest.mark.parametrize("expr", [*panels()])
def test_every_panel_of_the_dashboard_has_something_to_show(expr: str, prometheus: Any):
    """The query is valid, and finds series with numbers."""
    assert prometheus.values(expr)


def test_every_alert_is_evaluated_without_an_error(prometheus: Any, until: Any):
    """And the two that have a cause are pending, with a sentence that says where."""

    def rules() -> dict[str, Any]:
        groups = prometheus.get("rules")["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    def are_seen() -> bool:
        found = rules()
        return all(
            found[name]["alerts"] for name in ("PenstockCircuitOpen", "PenstockPoolHasNobody")
        )

    until(are_seen)

    assert {rule["health"] for rule in rules().values()} == {"ok"}
    (alert,) = rules()["PenstockPoolHasNobody"]["alerts"]
    assert alert["annotations"]["summary"] == "no resource of pool spent can serve"
