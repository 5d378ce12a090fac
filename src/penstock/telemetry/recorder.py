"""An observer of one call: its spans, then the sinks, then the policy's own observers."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context

from penstock.call import Call
from penstock.events import Event
from penstock.telemetry.faults import report
from penstock.telemetry.plan import Sink
from penstock.telemetry.spans import CallSpans

__all__ = ["Recorder", "sink_event"]


class Recorder:
    """Takes the events of one traced call, in front of the policy's observers.

    Attributes:
        call: The call.
        operation: The function's qualified name.
        context: The OpenTelemetry context in which the call's span is the current one.
    """

    __slots__ = ("_sinks", "_spans", "_then", "call", "context", "operation")

    def __init__(
        self,
        call: Call,
        operation: str,
        context: Context,
        spans: CallSpans | None,
        sinks: tuple[Sink, ...],
    ) -> None:
        self.call = call
        self.operation = operation
        self.context = context
        self._spans = spans
        self._sinks = sinks
        self._then = call.context.notify

    def __call__(self, event: Event) -> None:
        """Record an event; never raises what telemetry raised."""
        if self._spans is not None:
            self._spans(event)
        for sink in self._sinks:
            sink_event(sink, event, self)
        if self._then is not None:
            self._then(event)


def sink_event(sink: Sink, event: Event, recorder: Recorder | None) -> None:
    """Hand an event to a sink; what it raises is reported once."""
    try:
        sink(event, recorder)
    except Exception as error:  # noqa: BLE001 - telemetry changes nothing for the call
        part: Any = getattr(sink, "__name__", type(sink).__name__)
        report(part, error)
