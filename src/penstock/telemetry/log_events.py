"""Decisions as OpenTelemetry log events: why it retried, why it stopped, which resource and why."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from time import time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry._logs import LogRecord, SeverityNumber

from penstock.events import (
    AttemptStarted,
    CallRejected,
    CircuitChanged,
    Event,
    FallbackUsed,
    JobDropped,
    ResourceChanged,
    RetryScheduled,
    RetryStopped,
    WorkerChanged,
    WorkersPaused,
    WorkersResumed,
    WorkersStopped,
)
from penstock.telemetry import error_types
from penstock.telemetry import log_names as data
from penstock.telemetry.instruments import CIRCUIT, POOL, STAGE
from penstock.telemetry.names import (
    ATTEMPT_NUMBER,
    ERROR_TYPE,
    OPERATION,
    POLICY,
    REQUEST_ID,
    RESOURCE,
    VERDICT,
)

if TYPE_CHECKING:
    from penstock.telemetry.recorder import Recorder

__all__ = ["LogEvents", "has_log_events"]

_DEBUG, _INFO, _WARN = SeverityNumber.DEBUG, SeverityNumber.INFO, SeverityNumber.WARN

# Of a reason, in characters.
_LONGEST = 200

# What an event is called, how much it matters, what it says for people, and its attributes.
Told = tuple[data.LogEvent, SeverityNumber, str, dict[str, Any]]


def has_log_events() -> bool:
    """Return True where the API's log records have an event name (from 1.36 on)."""
    return "event_name" in signature(LogRecord.__init__).parameters


class LogEvents:
    """A sink that tells of decisions, linked to the span of the call.

    Args:
        logger: Takes the records.
    """

    __slots__ = ("_logger",)

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def __call__(self, event: Event, recorder: Recorder | None) -> None:
        """Emit a record if the event is a decision."""
        telling = _BY_KIND.get(type(event))
        told = None if telling is None else telling(event, recorder)
        if told is not None:
            self._emit(event, recorder, told)

    def _emit(self, event: Event, recorder: Recorder | None, told: Told) -> None:
        kind, severity, body, attributes = told
        facts: dict[str, Any] = {POLICY: event.policy}
        if recorder is not None:
            facts[OPERATION] = recorder.operation
        if event.request_id is not None:
            facts[REQUEST_ID] = event.request_id
        facts |= {name: value for name, value in attributes.items() if value is not None}
        record = LogRecord(
            timestamp=time_ns(),
            context=None if recorder is None else recorder.context,
            severity_number=severity,
            severity_text=severity.name,
            body=body,
            attributes=facts,
            event_name=kind.name,
        )
        self._logger.emit(record)


def _scheduled(event: RetryScheduled, _: Recorder | None) -> Told:
    facts = {ATTEMPT_NUMBER: event.attempt, data.DELAY: event.delay, **_failure(event)}
    body = f"attempt {event.attempt} failed; another follows in {event.delay:g} s"
    return data.SCHEDULED, _INFO, body, facts


def _stopped(event: RetryStopped, _: Recorder | None) -> Told:
    facts = {ATTEMPT_NUMBER: event.attempt, data.REASON: event.reason, **_failure(event)}
    body = f"attempt {event.attempt} failed and none follows: {event.reason}"
    return data.STOPPED, _INFO, body, facts


def _failure(event: RetryScheduled | RetryStopped | FallbackUsed) -> dict[str, str]:
    return {VERDICT: event.verdict.value, ERROR_TYPE: error_types.of_decision(event)}


def _rejected(event: CallRejected, _: Recorder | None) -> Told:
    facts = {STAGE: event.stage, ERROR_TYPE: event.error_type, data.RETRY_AFTER: event.retry_after}
    return data.REJECTED, _INFO, f"{event.stage} refused the call", facts


def _fallback(event: FallbackUsed, _: Recorder | None) -> Told:
    return data.FALLBACK, _INFO, "a fallback answered", _failure(event)


def _selected(event: AttemptStarted, recorder: Recorder | None) -> Told | None:
    gate: Any = None if recorder is None else recorder.call.context.gate
    if event.resource is None or gate is None:
        return None
    options = gate.pool.options
    pick = options.pick if isinstance(options.pick, str) else type(options.pick).__name__
    facts = {
        RESOURCE: event.resource,
        POOL: options.name,
        data.PICK: pick,
        ATTEMPT_NUMBER: event.attempt,
    }
    body = f"attempt {event.attempt} uses resource '{event.resource}'"
    return data.SELECTED, _DEBUG, body, facts


def _resource(event: ResourceChanged, _: Recorder | None) -> Told:
    kind, severity, what = _CHANGES.get(event.new, (data.READY, _INFO, "serves again"))
    facts = {
        RESOURCE: event.resource,
        POOL: event.pool,
        data.OLD: event.old,
        data.NEW: event.new,
        data.REASON: event.reason,
        data.DIMENSION: event.dimension,
        data.SECONDS: event.seconds,
    }
    return kind, severity, f"resource '{event.resource}' {what}", facts


def _circuit(event: CircuitChanged, _: Recorder | None) -> Told:
    facts = {
        CIRCUIT: event.breaker,
        data.OLD: event.old,
        data.NEW: event.new,
        data.REASON: event.reason,
    }
    severity = _WARN if event.new in ("open", "isolated") else _INFO
    body = f"circuit '{event.breaker}' went from {event.old} to {event.new}: {event.reason}"
    return data.CIRCUIT_CHANGED, severity, body, facts


def _worker(event: WorkerChanged, _: Recorder | None) -> Told:
    facts = {
        RESOURCE: event.worker,
        POOL: event.policy,
        data.OLD: event.old,
        data.NEW: event.new,
        data.REASON: _short(event.reason),
        data.SECONDS: event.seconds,
    }
    severity = _WARN if event.new == "parked" else _INFO
    return data.WORKER_CHANGED, severity, f"worker '{event.worker}' is {event.new}", facts


def _paused(event: WorkersPaused, _: Recorder | None) -> Told:
    reason = _short(event.reason)
    facts = {POOL: event.policy, data.REASON: reason, data.SECONDS: event.seconds}
    # With an end it is the pool's own doing.
    severity = _INFO if event.seconds is None else _WARN
    return data.WORKERS_PAUSED, severity, f"the pool pauses: {reason}", facts


def _resumed(event: WorkersResumed, _: Recorder | None) -> Told:
    return data.WORKERS_RESUMED, _INFO, "the pool goes on", {POOL: event.policy}


def _ended(event: WorkersStopped, _: Recorder | None) -> Told:
    reason = _short(event.reason)
    facts = {POOL: event.policy, data.REASON: reason, ERROR_TYPE: event.error_type}
    severity = _INFO if event.error_type is None else _WARN
    return data.WORKERS_STOPPED, severity, f"the pool takes no more jobs: {reason}", facts


def _dropped(event: JobDropped, _: Recorder | None) -> Told:
    facts = {
        POOL: event.policy,
        OPERATION: event.operation,
        data.REASON: event.reason,
        ERROR_TYPE: event.error_type,
    }
    severity = _WARN if event.reason in ("failed", "rejected") else _INFO
    return data.JOB_DROPPED, severity, f"a job was given up: {event.reason}", facts


def _short(reason: str) -> str:
    # It may be what a method has put into a signal.
    return reason if len(reason) <= _LONGEST else reason[: _LONGEST - 3] + "..."


_CHANGES = {
    "cooling": (data.COOLDOWN, _INFO, "rests"),
    "disabled": (data.DISABLED, _WARN, "is disabled"),
}

# By the very type of the event; each takes that one.
_BY_KIND: dict[type[Event], Callable[[Any, Any], Told | None]] = {
    AttemptStarted: _selected,
    CallRejected: _rejected,
    CircuitChanged: _circuit,
    FallbackUsed: _fallback,
    JobDropped: _dropped,
    ResourceChanged: _resource,
    RetryScheduled: _scheduled,
    RetryStopped: _stopped,
    WorkerChanged: _worker,
    WorkersPaused: _paused,
    WorkersResumed: _resumed,
    WorkersStopped: _ended,
}
