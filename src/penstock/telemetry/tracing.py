"""One traced call, from the operation span's start to its end."""

from __future__ import annotations

from time import time_ns
from typing import Any

from opentelemetry import context as _context
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Tracer, set_span_in_context

from penstock import clock
from penstock.call import Call
from penstock.events import Event
from penstock.observe import OBSERVING, waited_in_line
from penstock.stage import Handler
from penstock.switch import Nest
from penstock.telemetry import names
from penstock.telemetry.currency import enter, leave
from penstock.telemetry.faults import report
from penstock.telemetry.frames import SPANNING
from penstock.telemetry.plan import current_plan
from penstock.telemetry.recorder import Recorder, sink_event
from penstock.telemetry.spans import CallSpans, Moments

__all__ = ["tell", "traced"]

_SUPPRESSED = _context._SUPPRESS_INSTRUMENTATION_KEY  # noqa: SLF001 - instrumentations share it

_INTERNAL = SpanKind.INTERNAL


async def traced(call: Call, plain: Handler, nest: Nest) -> Any:
    """Run a call with its span, and record what happens in it where anybody keeps that.

    Args:
        call: The call.
        plain: The pipeline as it is without telemetry.
        nest: Makes one with other frames.
    """
    context, recorder = _begin(call)
    token = None if context is None else enter(context)
    try:
        if recorder is None:
            return await plain(call)
        call.notify = recorder
        frames = OBSERVING if type(recorder) is Recorder else SPANNING
        return await nest(frames)(call)
    finally:
        # The recorder refers to the call: together they would be a cycle.
        recorder, call.notify = None, call.context.notify
        if token is not None:
            leave(token)


def tell(event: Event) -> None:
    """Record an event that belongs to no call."""
    try:
        sinks = current_plan().sinks
    except Exception as error:  # noqa: BLE001 - telemetry changes nothing
        report("provider", error)
        return
    for sink in sinks:
        sink_event(sink, event, None)


def _begin(call: Call) -> tuple[Context | None, Recorder | CallSpans | None]:
    """Return the context of the call's span, and what records what happens in the call.

    None is recorded where the span is sampled out and nobody else listens, and there is no context
    where telemetry is suppressed, or broken.
    """
    try:
        outer = _context.get_current()
        if outer.get(_SUPPRESSED):
            return None, None
        plan = current_plan()
        operation = call.operation
    except Exception as error:  # noqa: BLE001 - telemetry changes nothing for the call
        report("provider", error)
        return None, None
    context, spans = outer, None
    if plan.tracer is not None:
        try:
            context, spans = _start_span(call, operation, plan.tracer, outer)
        except Exception as error:  # noqa: BLE001 - as above
            report("span", error)
    if not plan.sinks and (spans is None or call.notify is None):
        return context, spans
    return context, Recorder(call, operation, context, spans, plan.sinks)


def _start_span(
    call: Call, operation: str, tracer: Tracer, outer: Context
) -> tuple[Context, CallSpans | None]:
    policy, overrides = call.context.policy, call.context.overrides
    facts = {names.POLICY: policy, names.OPERATION: operation}
    if overrides.request_id is not None:
        facts[names.REQUEST_ID] = overrides.request_id
    if overrides.tags:
        facts.update((names.TAG + tag, value) for tag, value in overrides.tags.items())
    # A job of a pool of workers begins when it is handed in.
    waited = waited_in_line(call)
    now, epoch = clock.now() - waited, time_ns() - int(waited * 1e9)
    span = tracer.start_span(f"{policy} {operation}", outer, _INTERNAL, facts, None, epoch)
    context = set_span_in_context(span, outer)
    if not span.is_recording():
        return context, None
    return context, CallSpans(call, tracer, span, context, Moments(epoch, now))
