"""Telling observers: nothing here runs unless a policy has one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from penstock import clock
from penstock.call import Call, RefusedResult
from penstock.errors import CallTimeoutError, ConfigError, RejectedError
from penstock.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    Event,
    Observer,
    ResourceChanged,
    WaitEnded,
)
from penstock.operation import name_of, returns_awaitable
from penstock.stage import Handler
from penstock.verdict import VerdictKind

__all__ = [
    "OBSERVING",
    "Frames",
    "Notifier",
    "kind_of",
    "observe_pool",
    "outcome_of",
    "type_name",
    "waited_in_line",
]

_log = logging.getLogger("penstock")


class Frames(NamedTuple):
    """What is wrapped round the pipeline, and round the operation, so that somebody is told."""

    call: Callable[[Handler], Handler]
    attempt: Callable[[Handler], Handler]


class Notifier:
    """Hands every event to every observer; one that raises is reported once and changes nothing.

    Raises:
        ConfigError: An observer is a coroutine function.
    """

    __slots__ = ("_observers", "_reported")

    def __init__(self, observers: Sequence[Observer]) -> None:
        for observer in observers:
            if returns_awaitable(observer):
                msg = (
                    "policy: 'observers' must be plain callables, since an event is never awaited; "
                    f"got the coroutine function {name_of(observer)!r}"
                )
                raise ConfigError(msg)
        self._observers = tuple(observers)
        self._reported: set[int] = set()

    def __call__(self, event: Event) -> None:
        """Tell every observer, in order."""
        for place, observer in enumerate(self._observers):
            try:
                observer(event)
            except Exception:  # noqa: BLE001 - an observer changes nothing for the call
                if place not in self._reported:
                    self._reported.add(place)
                    name = name_of(observer)
                    _log.exception("observer %r raised; further errors are not shown", name)


def observe_pool(pool: Any, policy: str, notify: Callable[[Event], None]) -> None:
    """Tell observers about every change in a pool that a policy rotates over."""

    def tell(change: Any) -> None:
        dimension = None if change.dimension is None else str(change.dimension)
        notify(
            ResourceChanged(
                policy=policy,
                at=clock.now(),
                pool=pool.options.name,
                resource=change.resource,
                old=change.old,
                new=change.new,
                reason=change.reason,
                seconds=change.seconds,
                dimension=dimension,
                seq=change.seq,
            )
        )

    pool.watch(tell)


def _observe_call(call_next: Handler) -> Handler:
    """Wrap the whole pipeline with ``CallStarted`` and ``CallEnded``."""

    async def observed(call: Call) -> Any:
        waited = waited_in_line(call)
        began = clock.now() - waited
        operation = call.operation
        call.emit(CallStarted, operation=operation)
        if waited:
            call.emit(WaitEnded, stage="queue", seconds=waited)
        error: BaseException | None = None
        try:
            return await call_next(call)
        except BaseException as caught:
            error = caught
            raise
        finally:
            call.emit(
                CallEnded,
                operation=operation,
                outcome=outcome_of(error),
                duration=clock.now() - began,
                attempts=call.starts,
                error_type=type_name(error),
            )
            del error

    return observed


def _observe_attempt(call_next: Handler) -> Handler:
    """Wrap the operation with ``AttemptStarted`` and ``AttemptEnded``."""

    async def observed(call: Call) -> Any:
        call.starts += 1
        attempt = call.attempt
        resource = None if call.resource is None else call.resource.id
        call.emit(AttemptStarted, attempt=attempt, resource=resource)
        began = clock.now()
        kind, error_type = VerdictKind.OK, None
        try:
            return await call_next(call)
        except BaseException as error:
            kind, error_type = kind_of(call, error), type_name(error)
            raise
        finally:
            call.emit(
                AttemptEnded,
                attempt=attempt,
                duration=clock.now() - began,
                verdict=kind,
                error_type=error_type,
            )

    return observed


OBSERVING = Frames(_observe_call, _observe_attempt)


def waited_in_line(call: Call) -> float:
    """Return the seconds for which a job of a pool of workers was in line; 0.0 for other calls."""
    # Whatever else is called may have an attribute of that name.
    kind: Any = type(call.fn)
    if not issubclass(kind, asyncio.Future):
        return 0.0
    job: Any = call.fn
    waited: float = clock.now() - job.submitted_at
    return max(0.0, waited)


def kind_of(call: Call, error: BaseException) -> VerdictKind:
    """Return what an attempt's end meant."""
    # The operation is cut off by a cancel; that it comes from the policy's timeout is known further
    # out, and here because the call carries it.
    if call.expiring and isinstance(error, asyncio.CancelledError):
        return VerdictKind.TIMEOUT
    return call.judge(error).kind


def type_name(error: BaseException | None) -> str | None:
    """Return an error's class name, for events."""
    # A refused result is a failure, and nobody gets to see an error.
    return None if error is None or isinstance(error, RefusedResult) else type(error).__name__


def outcome_of(error: BaseException | None) -> str:
    """Return the word for how a call has ended."""
    match error:
        case None:
            return "success"
        case RejectedError():
            return "rejected"
        case asyncio.CancelledError() | GeneratorExit():
            # The second where a stream was collected without being closed.
            return "cancelled"
        case CallTimeoutError():
            return "timeout"
        case _:
            return "failure"
