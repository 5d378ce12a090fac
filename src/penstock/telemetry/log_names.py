"""Every log event as data: ``docs/telemetry.md`` is compared with it by a test."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.telemetry.instruments import CIRCUIT, POOL, STAGE
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
    "LogEvent",
]

DELAY = "penstock.retry.delay"
REASON = "penstock.reason"
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
)
