"""The spans of one call: the operation span, and a child of it for every attempt."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, Tracer, set_span_in_context

from penstock.call import Call
from penstock.events import AttemptEnded, AttemptStarted, CallEnded, Event, WaitEnded
from penstock.streaming import StreamOperation
from penstock.telemetry import names
from penstock.telemetry.currency import enter, leave
from penstock.verdict import VerdictKind

__all__ = ["CallSpans", "Moments"]

# Without a description: the text of an error may hold keys.
_ERROR = Status(StatusCode.ERROR)

# Neither went wrong.
_NO_ERRORS = ("success", "cancelled")
_NO_FAILURES = (VerdictKind.OK, VerdictKind.CANCELLED)


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
    """Records the events of one call as spans.

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
        "_context",
        "_is_current",
        "_moments",
        "_span",
        "_token",
        "_tracer",
        "_waits",
    )

    def __init__(
        self, call: Call, tracer: Tracer, span: Span, context: Context, moments: Moments
    ) -> None:
        self._call = call
        self._tracer = tracer
        self._span = span
        self._context = context
        self._moments = moments
        # The reader of a stream runs in the same context, between two items.
        self._is_current = not isinstance(call.fn, StreamOperation)
        self._attempt: Span | None = None
        self._token: Any = None
        self._waits: dict[str, Any] = {}

    def record(self, event: Event) -> None:
        """Record an event, if it is one that spans tell of."""
        match event:
            case AttemptStarted():
                self._start_attempt(event)
            case AttemptEnded():
                self._end_attempt(event)
            case WaitEnded():
                self._add_wait(event)
            case CallEnded():
                self._end(event)
            case _:
                # A decision: log events tell of those.
                pass

    def _start_attempt(self, event: AttemptStarted) -> None:
        facts, self._waits = self._waits, {}
        facts[names.ATTEMPT_NUMBER] = event.attempt
        if event.resource is not None:
            facts[names.RESOURCE] = event.resource
        began = self._moments.at(event.at)
        span = self._tracer.start_span(
            names.ATTEMPT_SPAN, self._context, attributes=facts, start_time=began
        )
        self._attempt = span
        if self._is_current:
            self._token = enter(set_span_in_context(span, self._context))

    def _end_attempt(self, event: AttemptEnded) -> None:
        token, self._token = self._token, None
        if token is not None:
            leave(token)
        span, self._attempt = self._attempt, None
        if span is None:
            return
        facts: dict[str, Any] = {names.VERDICT: event.verdict.value}
        if event.verdict not in _NO_FAILURES:
            facts[names.ERROR_TYPE] = _error_type_of(event)
            span.set_status(_ERROR)
        elif self._is_displaced(event):
            facts[names.DISPLACED] = True
        span.set_attributes(facts)
        span.end(self._moments.at(event.at))

    def _is_displaced(self, event: AttemptEnded) -> bool:
        lease = self._call.lease
        return event.verdict is VerdictKind.CANCELLED and lease is not None and lease.is_cancelled

    def _add_wait(self, event: WaitEnded) -> None:
        name = names.WAIT + event.stage
        self._waits[name] = self._waits.get(name, 0.0) + event.seconds

    def _end(self, event: CallEnded) -> None:
        span, facts = self._span, self._waits
        facts[names.ATTEMPTS] = event.attempts
        facts[names.OUTCOME] = event.outcome
        if event.outcome not in _NO_ERRORS:
            facts[names.ERROR_TYPE] = event.error_type or _word_of(self._call)
            span.set_status(_ERROR)
        span.set_attributes(facts)
        span.end(self._moments.at(event.at))


def _error_type_of(event: AttemptEnded) -> str:
    # What cut it off was a cancel; what it means is known from the verdict.
    if event.verdict is VerdictKind.TIMEOUT and event.error_type == "CancelledError":
        return "CallTimeoutError"
    # A refused result is a failure without an error.
    return event.error_type or event.verdict.value


def _word_of(call: Call) -> str:
    verdict = call.verdict
    return "failure" if verdict is None else verdict.kind.value
