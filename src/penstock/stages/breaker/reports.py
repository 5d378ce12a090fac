"""What a breaker says: to the caller it refuses, to the observers, to the log."""

from __future__ import annotations

import logging
from typing import Any

from penstock import clock
from penstock.call import Call, CallContext
from penstock.errors import CircuitOpenError
from penstock.events import CallRejected, CircuitChanged, Event, HookFailed

__all__ = ["Reports"]

_log = logging.getLogger("penstock")
_states = logging.getLogger("penstock.breaker")

# Calls are refused.
_GRAVE = ("open", "isolated")


class Reports:
    """Words and events of one circuit.

    A circuit can change by hand, outside of any call. Those who watch the policy whose calls it met
    first hear of that too.

    Args:
        label: The circuit's name; None takes the policy's.
    """

    __slots__ = ("_context", "_label")

    def __init__(self, label: str | None) -> None:
        self._label = label
        self._context: CallContext | None = None

    def meet(self, call: Call) -> None:
        """Learn from a call which policy it is."""
        if self._context is None:
            self._context = call.context

    def refuse(self, call: Call, state: str, retry_after: float | None) -> CircuitOpenError:
        """Return the error to raise for a call that is not let through, and tell the observers.

        Args:
            call: The call that is refused.
            state: ``open``, ``half_open`` or ``isolated``.
            retry_after: Seconds until a probe is due; None where nobody knows.
        """
        call.emit(
            CallRejected, stage="breaker", error_type="CircuitOpenError", retry_after=retry_after
        )
        msg = f"circuit '{self._name(call.context)}' is {_advice(state, retry_after)}"
        return CircuitOpenError(msg, retry_after=retry_after)

    def changed(self, call: Call | None, old: str, new: str, reason: str) -> None:
        """Log a change of state and tell the observers; ``call`` is None when made by hand."""
        context = self._context if call is None else call.context
        label = self._name(context)
        _log_change(label, None if context is None else context.policy, old, new, reason)
        facts = {"breaker": label, "old": old, "new": new, "reason": reason}
        if call is None:
            self._emit(CircuitChanged, **facts)
        else:
            call.emit(CircuitChanged, **facts)

    def failed(self, hook: str, error: BaseException) -> None:
        """Log what a user's hook raised, and tell the observers."""
        label = self._name(self._context)
        _log.error("circuit '%s': %s raised; no call is affected", label, hook, exc_info=error)
        self._emit(HookFailed, hook=hook, error_type=type(error).__name__)

    def _emit(self, event_type: type[Event], **facts: Any) -> None:
        context = self._context
        if context is not None and context.outside is not None:
            context.outside(event_type(policy=context.policy, at=clock.now(), **facts))

    def _name(self, context: CallContext | None) -> str:
        return self._label or ("breaker" if context is None else context.policy)


def _log_change(label: str, policy: str | None, old: str, new: str, reason: str) -> None:
    level = logging.WARNING if new in _GRAVE else logging.INFO
    if not _states.isEnabledFor(level):
        return
    facts = {
        "event_name": "penstock.circuit.state_changed",
        "policy": policy,
        "circuit": label,
        "old": old,
        "new": new,
        "reason": reason,
    }
    word = new.replace("_", "-")
    _states.log(level, "circuit '%s' is %s: %s", label, word, reason, extra=facts)


def _advice(state: str, retry_after: float | None) -> str:
    if retry_after is not None:
        seconds = f"{max(retry_after, 0.001):.3f}".rstrip("0").rstrip(".")
        return f"open; retry after {seconds} s"
    if state == "isolated":
        return "isolated by hand; nothing passes until its close() or reset()"
    return "half-open and its probes are under way; retry when they have ended"
