"""Frozen records of what happened; an observer is any callable that takes one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from penstock.verdict import VerdictKind

__all__ = [
    "AttemptEnded",
    "AttemptStarted",
    "CallEnded",
    "CallRejected",
    "CallStarted",
    "CallTimedOut",
    "CircuitChanged",
    "Event",
    "FallbackUsed",
    "HookFailed",
    "JobDropped",
    "Observer",
    "ResourceChanged",
    "RetryScheduled",
    "RetryStopped",
    "WaitEnded",
    "WorkerChanged",
    "WorkersPaused",
    "WorkersResumed",
    "WorkersStopped",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        policy: The policy's name.
        at: Monotonic seconds, from ``penstock.clock.now()``.
        request_id: What the caller passed to ``using(request_id=...)``.
    """

    policy: str
    at: float
    request_id: str | None = None


Observer = Callable[[Event], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted(Event):
    """A call entered the pipeline."""

    operation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded(Event):
    """A call left the pipeline.

    Attributes:
        operation: The function's qualified name.
        outcome: ``success``, ``failure``, ``rejected``, ``timeout`` or ``cancelled``.
        duration: Seconds, waits included.
        attempts: How many times the operation was started; 0 when it was rejected first.
        error_type: Class name of the error that reached the caller.
    """

    operation: str
    outcome: str
    duration: float
    attempts: int
    error_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(Event):
    """The operation is about to be called.

    Attributes:
        attempt: Counts from 1.
        resource: Id of the resource that serves it; None without rotation.
    """

    attempt: int
    resource: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded(Event):
    """The operation returned or raised; ``duration`` in seconds."""

    attempt: int
    duration: float
    verdict: VerdictKind
    error_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled(Event):
    """An attempt failed and another follows in ``delay`` seconds."""

    attempt: int
    delay: float
    verdict: VerdictKind
    error_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryStopped(Event):
    """An attempt failed and none follows; ``reason`` says why."""

    attempt: int
    reason: str
    verdict: VerdictKind
    error_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitEnded(Event):
    """A stage let the call wait for ``seconds``.

    ``stage`` is the name of a stage that admits calls, ``backoff``, or at a pool of resources
    ``cooldown`` (all of them rest) or ``queue`` (all of them are in use; for a job of a pool of
    workers also its time in line, which is before ``CallStarted``). ``hook`` is the time of
    async code of the user's that a stage asks, and ``fallback`` that of an answer in place of a
    failure, where it is a millisecond or more. It is told however the wait ended: with the turn,
    with a refusal, with a cancellation.
    """

    stage: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRejected(Event):
    """A stage refused the call before the operation was started."""

    stage: str
    error_type: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTimedOut(Event):
    """A timeout stage, or a stream's limit for one wait, ended the call or attempt."""

    seconds: float
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitChanged(Event):
    """A breaker moved from state ``old`` to state ``new``."""

    breaker: str
    old: str
    new: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackUsed(Event):
    """A fallback answered in place of a failure."""

    verdict: VerdictKind
    error_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceChanged(Event):
    """A resource of the policy's pool changed its standing, because of this policy or not.

    Attributes:
        pool: The pool's name.
        resource: The resource's id.
        old: ``ready``, ``cooling`` or ``disabled``.
        new: The same; equal to ``old`` where a rest was made longer.
        reason: A short word.
        seconds: How long it will rest; None where it does not.
        dimension: What the change is limited to, as a text; None for the whole resource.
        seq: Counts the changes of the pool from 1, without gaps.
    """

    pool: str
    resource: str
    old: str
    new: str
    reason: str
    seconds: float | None
    dimension: str | None
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HookFailed(Event):
    """A user's hook raised; nothing changed for the caller."""

    hook: str
    error_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerChanged(Event):
    """A worker moved from state ``old`` to state ``new``; ``policy`` is the pool's name.

    Attributes:
        worker: The worker's id.
        old: ``starting``, ``up``, ``restarting``, ``parked``, ``stopping`` or ``stopped``.
        new: The same.
        reason: A short word.
        seconds: How long it waits before it is started; None where it does not.
    """

    worker: str
    old: str
    new: str
    reason: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersPaused(Event):
    """No new call is given to a worker; ``seconds`` is how long, None until ``resume``."""

    reason: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersResumed(Event):
    """Calls are given to workers again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersStopped(Event):
    """The pool takes no more jobs; ``reason`` is why, ``error_type`` what made it stop."""

    reason: str
    error_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDropped(Event):
    """A job of a pool of workers was given up; ``policy`` is the pool's name.

    Attributes:
        operation: What it called.
        reason: ``failed``, ``skipped`` (its method said so), ``stopped`` (the pool was, before it
            had its turn) or ``rejected`` (before it had a worker).
        error_type: Class name of the failure.
    """

    operation: str
    reason: str
    error_type: str
