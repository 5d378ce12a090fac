"""A provider that keeps all spans, and a clean record of what has been reported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from penstock.telemetry import faults


class Spans:
    """What has been recorded."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def roots(self) -> list[ReadableSpan]:
        """Return the operation spans that stand under no other, in their order."""
        return [span for span in self._sorted() if span.parent is None]

    def tree(self) -> list[str]:
        """Return all spans as lines, and forget them."""
        lines = [line for root in self.roots() for line in self._lines(root, root, "")]
        self._exporter.clear()
        return lines

    def below(self, parent: ReadableSpan) -> list[ReadableSpan]:
        """Return the children of a span, in their order."""
        return [
            span
            for span in self._sorted()
            if span.parent is not None and span.parent.span_id == parent.context.span_id
        ]

    def _sorted(self) -> list[ReadableSpan]:
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def _lines(self, span: ReadableSpan, root: ReadableSpan, indent: str) -> Iterator[str]:
        began, ended = (_seconds(at, root) for at in (span.start_time, span.end_time))
        mark = " !" if span.status.status_code is trace.StatusCode.ERROR else ""
        facts = " ".join(
            f"{name.removeprefix('penstock.')}={_value(value)}"
            for name, value in sorted((span.attributes or {}).items())
            if name not in {"penstock.policy.name", "penstock.operation"}
        )
        yield f"{indent}{span.name} {began:g}-{ended:g}{mark} {facts}"
        for child in self.below(span):
            # A call begins when the wall clock says so, and its attempts are told from there.
            yield from self._lines(child, root if child.name == "attempt" else child, indent + "  ")


def _seconds(at: int | None, root: ReadableSpan) -> float:
    assert at is not None
    assert root.start_time is not None
    return round((at - root.start_time) / 1e9, 3)


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """Set a provider that keeps all spans."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return Spans(exporter)


@pytest.fixture(autouse=True)
def _nothing_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each test be the first to meet what is broken."""
    monkeypatch.setattr(faults, "_reported", set())
