"""What ``error.type`` is: the same word on spans, metrics and log events."""

from __future__ import annotations

from penstock.call import Call
from penstock.events import FallbackUsed, RetryScheduled, RetryStopped
from penstock.verdict import VerdictKind

__all__ = ["of_attempt", "of_call", "of_decision"]


def of_attempt(verdict: VerdictKind, error_type: str | None) -> str | None:
    """Return the type of what an attempt failed with; None on success and on a cancel."""
    match verdict:
        case VerdictKind.OK | VerdictKind.CANCELLED:
            return None
        case VerdictKind.TIMEOUT if error_type == "CancelledError":
            # What cut it off was a cancel; what it means is known from the verdict.
            return "CallTimeoutError"
        case _:
            # A refused result is a failure without an error.
            return error_type or verdict.value


def of_call(call: Call, outcome: str, error_type: str | None) -> str | None:
    """Return the type of the error that reached the caller; None on success and on a cancel."""
    if outcome in {"success", "cancelled"}:
        return None
    verdict = call.verdict
    return error_type or ("failure" if verdict is None else verdict.kind.value)


def of_decision(event: RetryScheduled | RetryStopped | FallbackUsed) -> str:
    """Return the type of the failure that somebody had to decide about."""
    if event.error_type is None or event.error_type == "RefusedResult":
        return event.verdict.value
    return event.error_type
