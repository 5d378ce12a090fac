"""One traced call, from the operation span's start to its end."""

from __future__ import annotations

from collections.abc import Callable
from time import time_ns
from typing import Any, NamedTuple

from opentelemetry import context as _context
from opentelemetry.context import Context
from opentelemetry.trace import set_span_in_context

from penstock import clock
from penstock.call import Call
from penstock.events import Event
from penstock.stage import Handler
from penstock.streaming import StreamOperation
from penstock.telemetry import names
from penstock.telemetry.currency import enter, leave
from penstock.telemetry.faults import report
from penstock.telemetry.plan import Plan, current_plan
from penstock.telemetry.recorder import Recorder, sink_event
from penstock.telemetry.spans import CallSpans, Moments

__all__ = ["tell", "traced"]

_SUPPRESSED = _context._SUPPRESS_INSTRUMENTATION_KEY  # noqa: SLF001 - instrumentations share it


class _Beginning(NamedTuple):
    context: Context
    recorder: Recorder | None


async def traced(call: Call, plain: Handler, observed: Callable[[], Handler]) -> Any:
    """Run a call with its span, and record its events where anybody keeps them.

    Args:
        call: The call.
        plain: The pipeline as it is without telemetry.
        observed: Makes the one that tells of every event.
    """
    beginning = _begin(call)
    if beginning is None:
        return await plain(call)
    # A stream's reader runs in the same context, between two items.
    token = None if isinstance(call.fn, StreamOperation) else enter(beginning.context)
    try:
        if beginning.recorder is None:
            return await plain(call)
        call.notify = beginning.recorder
        return await observed()(call)
    finally:
        # The recorder refers to the call: together they would be a cycle.
        call.notify = call.context.notify
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


def _begin(call: Call) -> _Beginning | None:
    try:
        outer = _outer_context(call)
        plan = current_plan()
    except Exception as error:  # noqa: BLE001 - telemetry changes nothing for the call
        report("provider", error)
        return None
    if outer.get(_SUPPRESSED):
        return None
    operation = call.operation
    context, spans = _start_span(call, operation, plan, outer)
    if spans is None and not plan.sinks:
        return _Beginning(context, None)
    return _Beginning(context, Recorder(call, operation, context, spans, plan.sinks))


def _start_span(
    call: Call, operation: str, plan: Plan, outer: Context
) -> tuple[Context, CallSpans | None]:
    if plan.tracer is None:
        return outer, None
    policy = call.context.policy
    facts = {names.POLICY: policy, names.OPERATION: operation}
    overrides = call.context.overrides
    if overrides.request_id is not None:
        facts[names.REQUEST_ID] = overrides.request_id
    for tag, value in overrides.tags.items():
        facts[names.TAG + tag] = value
    epoch = time_ns()
    try:
        span = plan.tracer.start_span(
            f"{policy} {operation}", outer, attributes=facts, start_time=epoch
        )
        context = set_span_in_context(span, outer)
        if not span.is_recording():
            return context, None
    except Exception as error:  # noqa: BLE001 - telemetry changes nothing for the call
        report("span", error)
        return outer, None
    moments = Moments(epoch, clock.now())
    return context, CallSpans(call, plan.tracer, span, context, moments)


def _outer_context(call: Call) -> Context:
    # A stream's span is current nowhere: a policy that answers in place of another one asks the
    # call that it answers for.
    operation: Any = call.fn
    if isinstance(operation, StreamOperation):
        for outer in reversed(operation.calls):
            if isinstance(outer.notify, Recorder):
                return outer.notify.context
    return _context.get_current()
