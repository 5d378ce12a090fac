"""The spans of one call: the operation span, and a child of it for every attempt."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)

from penstock.call import Call
from penstock.events import AttemptEnded, AttemptStarted, CallEnded, Event, WaitEnded
from penstock.telemetry import error_types, names
from penstock.telemetry.currency import enter, leave
from penstock.telemetry.faults import report
from penstock.verdict import VerdictKind

__all__ = ["CallSpans", "Moments"]

# Without a description: the text of an error may hold keys.
_ERROR = Status(StatusCode.ERROR)

_INTERNAL = SpanKind.INTERNAL


class Moments:
    """Turns monotonic seconds into the nanoseconds that spans are told in.

    One reading of the wall clock per call: its spans add up, whatever is done to the clock, and
    under a virtual one.
    """

    __slots__ = ("_began", "_epoch")

    def __init__(self, epoch: int, began: float) -> None:
        self._epoch = epoch
        self._began = began

    def at(self, seconds: float) -> int:
        """Return a moment of ``clock.now()`` as nanoseconds since 1970."""
        return self._epoch + int((seconds - self._began) * 1e9)


class CallSpans:
    """Records what happens in one call as spans; none of its methods raises.

    Args:
        call: The call.
        tracer: Starts the spans of attempts.
        span: The operation span, which has begun.
        context: The context in which that one is current.
        moments: When the call began.
    """

    __slots__ = (
        "_attempt",
        "_call",
        "_moments",
        "_span",
        "_token",
        "_tracer",
        "_waits",
        "context",
    )

    def __init__(
        self, call: Call, tracer: Tracer, span: Span, context: Context, moments: Moments
    ) -> None:
        self._call = call
        self._tracer = tracer
        self._span = span
        self.context = context
        self._moments = moments
        self._attempt: Span | None = None
        self._token: Any = None
        self._waits: dict[str, Any] = {}

    def __call__(self, event: Event) -> None:
        """Record an event, if it is one that spans tell of."""
        match event:
            case WaitEnded():
                name = names.WAIT + event.stage
                self._waits[name] = self._waits.get(name, 0.0) + event.seconds
            case AttemptStarted():
                self.start_attempt(event.at, event.attempt, event.resource)
            case AttemptEnded():
                self.end_attempt(event.at, event.verdict, event.error_type)
            case CallEnded():
                self.end(event.at, event.outcome, event.error_type, event.attempts)
            case _:
                # A decision: log events tell of those.
                pass

    def start_attempt(self, at: float, number: int, resource: str | None) -> None:
        """Begin an attempt, and take what was waited for it."""
        facts, self._waits = self._waits, {}
        facts[names.ATTEMPT_NUMBER] = number
        if resource is not None:
            facts[names.RESOURCE] = resource
        try:
            span = self._tracer.start_span(
                names.ATTEMPT_SPAN, self.context, _INTERNAL, facts, None, self._moments.at(at)
            )
            self._attempt = span
            self._token = enter(set_span_in_context(span, self.context))
        except Exception as error:  # noqa: BLE001 - telemetry changes nothing for the call
            report("span", error)

    def end_attempt(self, at: float, verdict: VerdictKind, error_type: str | None) -> None:
        """End the attempt under way."""
        token, self._token = self._token, None
        if token is not None:
            leave(token)
        span, self._attempt = self._attempt, None
        if span is None:
            return
        facts: dict[str, Any] = {names.VERDICT: verdict.value}
        error = error_types.of_attempt(verdict, error_type)
        if error is not None:
            facts[names.ERROR_TYPE] = error
        elif verdict is VerdictKind.CANCELLED and _is_displaced(self._call):
            facts[names.DISPLACED] = True
        self._end_span(span, at, facts, failed=error is not None)

    def end(self, at: float, outcome: str, error_type: str | None, attempts: int) -> None:
        """End the call."""
        facts = self._waits
        facts[names.ATTEMPTS] = attempts
        facts[names.OUTCOME] = outcome
        error = error_types.of_call(self._call, outcome, error_type)
        if error is not None:
            facts[names.ERROR_TYPE] = error
        self._end_span(self._span, at, facts, failed=error is not None)

    def _end_span(self, span: Span, at: float, facts: dict[str, Any], *, failed: bool) -> None:
        try:
            if failed:
                span.set_status(_ERROR)
            span.set_attributes(facts)
            span.end(self._moments.at(at))
        except Exception as error:  # noqa: BLE001 - telemetry changes nothing for the call
            report("span", error)


def _is_displaced(call: Call) -> bool:
    lease = call.lease
    return lease is not None and lease.is_cancelled
