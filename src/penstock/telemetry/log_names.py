"""Every log event as data: ``docs/telemetry.md`` is compared with it by a test."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.telemetry.instruments import CIRCUIT, POOL, REASON, STAGE
from penstock.telemetry.names import (
    ATTEMPT_NUMBER,
    ERROR_TYPE,
    OPERATION,
    POLICY,
    REQUEST_ID,
    RESOURCE,
    VERDICT,
    Attribute,
)

__all__ = [
    "CIRCUIT_CHANGED",
    "COMMON",
    "COOLDOWN",
    "DELAY",
    "DIMENSION",
    "DISABLED",
    "FALLBACK",
    "JOB_DROPPED",
    "LOG_EVENTS",
    "NEW",
    "OLD",
    "PICK",
    "READY",
    "REASON",
    "REJECTED",
    "RETRY_AFTER",
    "SCHEDULED",
    "SECONDS",
    "SELECTED",
    "STOPPED",
    "WORKERS_PAUSED",
    "WORKERS_RESUMED",
    "WORKERS_STOPPED",
    "WORKER_CHANGED",
    "LogEvent",
]

DELAY = "penstock.retry.delay"
RETRY_AFTER = "penstock.retry_after"
PICK = "penstock.pool.pick"
OLD = "penstock.state.old"
NEW = "penstock.state.new"
SECONDS = "penstock.resource.seconds"
DIMENSION = "penstock.resource.dimension"


@dataclass(frozen=True, slots=True)
class LogEvent:
    """A log event.

    Attributes:
        name: Its ``event_name``.
        about: What was decided.
        attributes: What it carries besides what all of them do.
    """

    name: str
    about: str
    attributes: tuple[Attribute, ...]


SCHEDULED = LogEvent(
    "penstock.retry.scheduled",
    "An attempt failed and another follows.",
    (
        Attribute(ATTEMPT_NUMBER, "int", "The attempt that failed, from 1."),
        Attribute(DELAY, "double", "Seconds until the next one."),
        Attribute(VERDICT, "string", "What the failure meant: why it is tried again."),
        Attribute(ERROR_TYPE, "string", "Class of the failure; the verdict of a refused result."),
    ),
)
STOPPED = LogEvent(
    "penstock.retry.stopped",
    "An attempt failed and none follows.",
    (
        Attribute(ATTEMPT_NUMBER, "int", "The attempt that failed, from 1."),
        Attribute(REASON, "string", "Why none follows."),
        Attribute(VERDICT, "string", "What the failure meant."),
        Attribute(ERROR_TYPE, "string", "Class of the failure; the verdict of a refused result."),
    ),
)
REJECTED = LogEvent(
    "penstock.call.rejected",
    "A stage refused the call before the operation was started.",
    (
        Attribute(STAGE, "string", "The stage."),
        Attribute(ERROR_TYPE, "string", "Class of the error."),
        Attribute(RETRY_AFTER, "double", "Seconds until trying again can help; else absent."),
    ),
)
FALLBACK = LogEvent(
    "penstock.fallback.used",
    "A fallback answered in place of a failure.",
    (
        Attribute(VERDICT, "string", "What the failure meant."),
        Attribute(ERROR_TYPE, "string", "Class of the failure; the verdict of a refused result."),
    ),
)
SELECTED = LogEvent(
    "penstock.resource.selected",
    "A resource was given to an attempt.",
    (
        Attribute(RESOURCE, "string", "The resource's id, never its value."),
        Attribute(POOL, "string", "The pool's name."),
        Attribute(PICK, "string", "Why it was this one: the pool's way to pick."),
        Attribute(ATTEMPT_NUMBER, "int", "The attempt, from 1."),
    ),
)
_CHANGE = (
    Attribute(RESOURCE, "string", "The resource's id, never its value."),
    Attribute(POOL, "string", "The pool's name."),
    Attribute(OLD, "string", "Its state before: ready, cooling or disabled."),
    Attribute(NEW, "string", "Its state from now on."),
    Attribute(REASON, "string", "Why, in a short word."),
    Attribute(DIMENSION, "string", "What the change is limited to (a model, say); else absent."),
)
COOLDOWN = LogEvent(
    "penstock.resource.cooldown",
    "A resource rests, or rests longer.",
    (*_CHANGE, Attribute(SECONDS, "double", "How long it rests.")),
)
DISABLED = LogEvent("penstock.resource.disabled", "A resource was taken out.", _CHANGE)
READY = LogEvent("penstock.resource.ready", "A resource serves again.", _CHANGE)
CIRCUIT_CHANGED = LogEvent(
    "penstock.circuit.state_changed",
    "A circuit opened, is being probed, closed or was isolated.",
    (
        Attribute(CIRCUIT, "string", "The circuit's name."),
        Attribute(OLD, "string", "closed, open, half_open or isolated."),
        Attribute(NEW, "string", "The same, from now on."),
        Attribute(REASON, "string", "Why, in words."),
    ),
)
_POOL = Attribute(POOL, "string", "The pool's name.")
WORKER_CHANGED = LogEvent(
    "penstock.worker.state_changed",
    "A worker of a pool starts, is up, is started anew, is parked or stops.",
    (
        Attribute(RESOURCE, "string", "The worker's id."),
        _POOL,
        Attribute(OLD, "string", "starting, up, restarting, parked, stopping or stopped."),
        Attribute(NEW, "string", "The same, from now on."),
        Attribute(REASON, "string", "Why, in a short word."),
        Attribute(SECONDS, "double", "How long it waits before it is started; else absent."),
    ),
)
WORKERS_PAUSED = LogEvent(
    "penstock.workers.paused",
    "A pool of workers begins no job for a while.",
    (
        _POOL,
        Attribute(REASON, "string", "Why: too many failed jobs, or what asked for it."),
        Attribute(SECONDS, "double", "How long; absent where it is until somebody ends it."),
    ),
)
WORKERS_RESUMED = LogEvent(
    "penstock.workers.resumed", "A pool of workers begins jobs again.", (_POOL,)
)
WORKERS_STOPPED = LogEvent(
    "penstock.workers.stopped",
    "A pool of workers takes no more jobs.",
    (
        _POOL,
        Attribute(REASON, "string", "Why, in words."),
        Attribute(ERROR_TYPE, "string", "Class of what it has stopped for; else absent."),
    ),
)
JOB_DROPPED = LogEvent(
    "penstock.job.dropped",
    "A job of a pool of workers was given up.",
    (
        _POOL,
        Attribute(REASON, "string", "failed, skipped, stopped or rejected."),
        Attribute(ERROR_TYPE, "string", "Class of the failure."),
    ),
)

# On every one of them.
COMMON = (
    Attribute(POLICY, "string", "The policy's name."),
    Attribute(OPERATION, "string", "The function's qualified name; absent outside of calls."),
    Attribute(REQUEST_ID, "string", "What `using(request_id=...)` set; else absent."),
)

LOG_EVENTS = (
    SCHEDULED,
    STOPPED,
    REJECTED,
    FALLBACK,
    SELECTED,
    COOLDOWN,
    DISABLED,
    READY,
    CIRCUIT_CHANGED,
    WORKER_CHANGED,
    WORKERS_PAUSED,
    WORKERS_RESUMED,
    WORKERS_STOPPED,
    JOB_DROPPED,
)
