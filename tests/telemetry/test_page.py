"""``docs/telemetry.md`` lists every span, attribute, metric and log event as the code does."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from penstock import Policy, WorkerPool
from penstock.stages.breaker import Breaker, BreakerOptions
from penstock.telemetry.instruments import DURATION_BUCKETS, METRICS, Metric
from penstock.telemetry.log_names import COMMON, LOG_EVENTS
from penstock.telemetry.names import SPANS, Attribute
from penstock.telemetry.settings import TelemetryOptions
from penstock.testing import run

PAGE = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text(encoding="utf-8")

# What the exporter makes of a metric, by its kind.
SUFFIXES = {"counter": "_total", "histogram": "_seconds"}


def section(heading: str) -> str:
    """Return a part of the page, without its heading."""
    found = re.search(
        rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", PAGE, re.MULTILINE | re.DOTALL
    )
    assert found, f"the page has no part '{heading}'"
    return found[2]


def rows(text: str) -> list[str]:
    """Return the lines of the tables of a part, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [line for line in lines if line.startswith("| `")]


def attribute_rows(attributes: tuple[Attribute, ...]) -> list[str]:
    """Return how the page shows attributes."""
    return [f"| `{each.name}` | {each.type} | {each.about} |" for each in attributes]


def metric_row(metric: Metric) -> str:
    """Return how the page shows a metric."""
    shown = metric.name.replace(".", "_") + SUFFIXES.get(metric.kind, "")
    kind = metric.kind.replace("_", "-").replace("observable-", "")
    by = ", ".join(f"`{name}`" for name in metric.attributes)
    return f"| `{metric.name}` | `{shown}` | {kind}, `{metric.unit}` | {metric.about} | {by} |"


def event_rows() -> Iterator[str]:
    """Return how the page shows the log events."""
    for event in LOG_EVENTS:
        about = "<br>".join(f"`{each.name}`: {each.about}" for each in event.attributes)
        yield f"| `{event.name}` | {event.about} | {about} |"


@pytest.mark.parametrize("span", SPANS, ids=lambda span: span.name)
def test_the_page_lists_each_span_with_its_attributes(span: Any):
    """All of them, no others, in the same words."""
    part = section(f"`{span.name}`")

    assert span.about in part
    assert rows(part) == attribute_rows(span.attributes)


def test_the_page_lists_each_metric():
    """With its name in Prometheus, its unit, and what tells its series apart."""
    assert rows(section("Metrics")) == [metric_row(metric) for metric in METRICS]


def test_the_names_in_prometheus_are_those_that_its_exporter_makes(scraped: dict[str, set[str]]):
    """Of metrics and of labels: asked of the exporter itself."""
    shown = dict(re.findall(r"^\| `(penstock[\w.]+)` \| `(\w+)` \|", PAGE, re.MULTILINE))

    for metric in METRICS:
        name = shown[metric.name]
        samples = {f"{name}_count", f"{name}_sum", f"{name}_bucket", name} & scraped.keys()
        assert samples, name
        labels = {attribute.replace(".", "_") for attribute in metric.attributes}
        for sample in samples:
            assert labels <= scraped[sample], sample
    assert {name.split("_bucket")[0] for name in scraped if name.endswith("_bucket")} == {
        shown[metric.name] for metric in METRICS if metric.kind == "histogram"
    }


def test_the_page_says_the_buckets():
    """In seconds."""
    assert ", ".join(f"{bound:g}" for bound in DURATION_BUCKETS) in PAGE.replace("\n", " ")


def test_the_page_lists_each_log_event_with_its_attributes():
    """Those that all of them carry stand apart."""
    part = section("Log events")
    found = rows(part)

    assert found == [*attribute_rows(COMMON), *event_rows()]


def test_the_page_lists_what_a_line_of_the_log_carries(caplog: pytest.LogCaptureFixture):
    """Every ``extra`` of both loggers, no others."""
    caplog.set_level(logging.INFO, "penstock")
    policy = Policy("search").rotating(["1"])
    policy.stages[0].pool.disable("1")  # type: ignore[attr-defined]
    Breaker(BreakerOptions()).open()
    run(_one_dropped_job())
    usual = vars(logging.makeLogRecord({})).keys() | {"message"}

    extras = {r.name: set(vars(r)) - usual for r in caplog.records if r.name != "penstock"}

    listed = re.findall(r"^\| `(penstock\.\w+)` \| .* \| (.*) \|$", section("Logs"), re.MULTILINE)
    assert {name: set(re.findall(r"`(\w+)`", fields)) for name, fields in listed} == extras


async def _one_dropped_job() -> None:
    async with WorkerPool(Worker, size=1) as pool:
        await asyncio.gather(pool.workers.fail(), return_exceptions=True)


class Worker:
    """One whose jobs fail."""

    async def fail(self) -> None:
        """Raise an error."""
        raise OSError


def test_the_page_lists_what_can_be_configured():
    """By the names of the options, with their defaults."""
    part = section("What metrics tell apart")

    listed = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", part, re.MULTILINE)

    assert dict(listed) == {f.name: str(f.default) for f in fields(TelemetryOptions)}
