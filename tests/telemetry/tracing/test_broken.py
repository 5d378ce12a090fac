"""Telemetry that is broken never breaks a call, and is reported once."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext

from penstock import Policy
from penstock.events import ResourceChanged
from penstock.telemetry import plan, tell
from penstock.testing import EventLog, scripted

pytestmark = pytest.mark.virtual_time


def _broken(*_: object, **__: object) -> Any:
    raise ZeroDivisionError


class Provider:
    """Fails at one place, from one span on."""

    def __init__(self, where: str, spans: int = 0) -> None:
        self.where = where
        self._left = spans

    def get_tracer(self, *_: object, **__: object) -> Provider:
        """Return a tracer."""
        if self.where == "get_tracer":
            _broken()
        return self

    def start_span(self, *_: object, **__: object) -> Any:
        """Return a span."""
        self._left -= 1
        if self.where == "start_span" and self._left < 0:
            _broken()
        return Span(self.where)


class Span(NonRecordingSpan):
    """Records, and fails at one place."""

    def __init__(self, where: str) -> None:
        super().__init__(SpanContext(1, 1, is_remote=False))
        self._where = where
        setattr(self, where, _broken)

    def is_recording(self) -> bool:
        """Return that it does."""
        return True


def _reported(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [r.message for r in caplog.records if r.levelno >= logging.ERROR]
    return [message.removeprefix("telemetry: the ").split(" raised;")[0] for message in messages]


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize(
    ("provider", "reported"),
    [
        (("get_tracer", 0), ["tracer provider"]),
        (("start_span", 0), ["span"]),
        (("start_span", 1), ["span"]),
        (("is_recording", 0), ["span"]),
        (("get_span_context", 0), []),
        (("set_attributes", 0), ["span"]),
        (("set_status", 0), ["span"]),
        (("end", 0), ["span"]),
    ],
    ids=str,
)
async def test_a_provider_that_raises_changes_nothing(
    provider: tuple[str, int],
    reported: list[str],
    observed: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    """Wherever it does, for success and failure, with and without observers."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", Provider(*provider))
    log = EventLog()
    policy = Policy("ask", observers=[log] if observed else []).with_retry(2, 1)

    for _ in range(2):
        assert await policy.call(scripted(ConnectionError, "done")) == "done"
    with pytest.raises(KeyError):
        await policy.call(scripted(KeyError))

    assert len(log.names()) == (21 if observed else 0)
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert _reported(caplog) == reported


class Exporter(SpanExporter):
    """Cannot export."""

    export = _broken


async def test_an_exporter_that_raises_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    """The SDK reports it itself."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(Exporter()))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    assert await Policy("ask").call(scripted("done")) == "done"


async def test_a_sink_that_raises_changes_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, spans
):
    """The other sinks, the spans and the observers are told all the same."""
    heard, log = EventLog(), EventLog()

    def sink(event: Any, recorder: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(plan, "sinks_for", lambda *_: (sink, lambda event, _: heard(event)))
    monkeypatch.setattr(plan, "_plan", plan.Plan((None, None, None), None, ()))

    await Policy("ask", observers=[log]).call(scripted("done"))
    change: dict[str, Any] = dict.fromkeys(
        ("pool", "resource", "old", "new", "reason", "seconds", "dimension", "seq")
    )
    tell(ResourceChanged(policy="ask", at=0.0, **change))

    assert log.names() == ["CallStarted", "AttemptStarted", "AttemptEnded", "CallEnded"]
    assert heard.names() == [*log.names(), "ResourceChanged"]
    assert len(spans.tree()) == 2
    assert _reported(caplog) == ["sink"]


async def test_events_outside_of_calls_survive_a_broken_plan(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """A circuit is opened by hand, and nobody can be told."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", Provider("nowhere"))
    monkeypatch.setattr(plan, "_made", _broken)
    policy = Policy("ask").with_breaker()

    assert await policy.call(scripted("done")) == "done"
    tell(ResourceChanged)  # type: ignore[arg-type]

    assert _reported(caplog) == ["provider"]


# --- what is never recorded ---------------------------------------------------------------------


async def test_no_attribute_holds_what_may_be_secret(spans):
    """Neither values of resources nor texts of errors nor arguments."""
    policy = Policy("ask").with_retry(2, 0).rotating(["sk-s3cr3t-1", "sk-s3cr3t-2"])

    async def find(key: Any, url: str) -> None:
        raise ConnectionError(f"{url} refused {key.value}")

    with pytest.raises(ConnectionError):
        await policy.call(find, "https://user:s3cr3t@host/")

    said = "".join(span.to_json() for root in spans.roots() for span in _all(spans, root))
    assert "s3cr3t" not in said
    assert "ConnectionError" in said


def _all(spans: Any, root: Any) -> list[Any]:
    return [root, *spans.below(root)]
