"""Providers of OpenTelemetry for one test each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from opentelemetry import _logs, metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from penstock import CooldownResource, Policy, WorkerPool, telemetry
from penstock.switch import CREWS, LIVE
from penstock.telemetry.gauges import WATCHED
from penstock.testing import run, scripted, takes


class Readings:
    """What an exporter of metrics would send."""

    def __init__(self, reader: InMemoryMetricReader) -> None:
        self._reader = reader

    def metric(self, name: str) -> Metric | None:
        """Return a metric; None where nothing was measured."""
        data = self._reader.get_metrics_data()
        scopes = [] if data is None else [s for r in data.resource_metrics for s in r.scope_metrics]
        found = [metric for scope in scopes for metric in scope.metrics if metric.name == name]
        assert len(found) <= 1
        return found[0] if found else None

    def points(self, name: str) -> list[Any]:
        """Return the points of a metric."""
        metric = self.metric(name)
        return [] if metric is None else [*metric.data.data_points]

    def series(self, name: str, *shown: str) -> dict[Any, Any]:
        """Return a metric's values by what tells its series apart.

        Args:
            name: The metric's.
            shown: Attributes without the prefix ``penstock.``; one gives plain keys.
        """
        return {_key(point.attributes, shown): _read(point) for point in self.points(name)}


def _key(attributes: Mapping[str, Any], shown: Iterable[str]) -> Any:
    key = tuple(attributes.get(f"penstock.{name}", attributes.get(name)) for name in shown)
    return key[0] if len(key) == 1 else key


def _read(point: Any) -> Any:
    return (point.count, point.sum) if hasattr(point, "count") else point.value


@pytest.fixture
def no_policies() -> Iterator[None]:
    """Hide what other tests have left alive."""
    before = [(live, [*live]) for live in (LIVE, WATCHED, CREWS)]
    for live, _ in before:
        live.clear()
    yield
    for live, those in before:
        live.update(those)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch, no_policies: None) -> Iterator[Readings]:
    """Set a provider of metrics."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(metrics._internal, "_METER_PROVIDER", provider)
    yield Readings(reader)
    provider.shutdown()


class Told:
    """The log events that were sent."""

    def __init__(self, exporter: InMemoryLogRecordExporter) -> None:
        self._exporter = exporter

    def records(self, name: str | None = None) -> list[ReadableLogRecord]:
        """Return all of them, or those of one name."""
        finished = self._exporter.get_finished_logs()
        return [r for r in finished if name in {None, r.log_record.event_name}]

    def names(self) -> list[str]:
        """Return their names, without the prefix, in their order."""
        return [str(r.log_record.event_name).removeprefix("penstock.") for r in self.records()]

    def only(self, name: str) -> dict[str, Any]:
        """Return the attributes of the one of this name, without the prefix."""
        (record,) = self.records(f"penstock.{name}")
        facts = record.log_record.attributes or {}
        return {key.removeprefix("penstock."): value for key, value in facts.items()}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """Set a provider of logs."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(_logs._internal, "_LOGGER_PROVIDER", provider)
    yield Told(exporter)
    provider.shutdown()


@pytest.fixture
def configured() -> Iterator[None]:
    """Set telemetry back to its defaults afterwards."""
    yield
    telemetry.configure()


class Worker:
    """One whose jobs fail."""

    async def fail(self) -> None:
        """Raise an error."""
        raise OSError


async def _everything() -> list[Any]:
    """Let every metric be measured at least once."""
    policies = [
        Policy("search")
        .with_retry(3, 0.1)
        .with_rate(10)
        .with_breaker(failures=9)
        .with_concurrency(1, max_queue=0)
        .rotating(["a", "b"], name="keys", inject=None),
    ]
    calls = [policies[0].call(scripted(OSError, CooldownResource(9), takes(1))) for _ in range(2)]
    await asyncio.gather(*calls, return_exceptions=True)
    pool = WorkerPool(Worker, size=1, name="crew")
    await pool.start()
    await asyncio.gather(pool.workers.fail(), return_exceptions=True)
    return [policies, pool]


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, no_policies: None) -> Iterator[CollectorRegistry]:
    """Set a provider of metrics that Prometheus can scrape."""
    registry = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(registry=registry)], shutdown_on_exit=False)
    monkeypatch.setattr(metrics._internal, "_METER_PROVIDER", provider)
    yield registry
    provider.shutdown()


@pytest.fixture
def scraped(registry: CollectorRegistry, configured: None) -> Iterator[dict[str, set[str]]]:
    """Scrape every metric: its samples by name, with their labels."""
    telemetry.configure(resource_ids=True)
    kept = run(_everything())
    families = text_string_to_metric_families(generate_latest(registry).decode())
    samples: dict[str, set[str]] = {}
    for family in families:
        for sample in family.samples:
            samples.setdefault(sample.name, set()).update(sample.labels)
    yield samples
    del kept
