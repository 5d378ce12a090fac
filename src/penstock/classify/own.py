"""What penstock's own signals and errors mean."""

from __future__ import annotations

import math

from penstock.errors import (
    CallTimeoutError,
    DisplacedError,
    PolicyError,
    RejectedError,
    WorkerDiedError,
)
from penstock.signals import RestartWorker, SkipTask, StopPool, TripBreaker
from penstock.verdict import (
    CooldownResource,
    DisableResource,
    Signal,
    TryAgain,
    Verdict,
    VerdictKind,
)

__all__ = ["by_own_type", "sound_seconds"]


def by_own_type(failure: Signal | PolicyError) -> Verdict:
    """Return what a signal of the operation, or an error of a policy further in, asks for.

    A rejection is RATE_LIMITED: waiting until coming back can help is right, and a breaker further
    out stays as it is, because the service has not been asked.
    """
    return _by_signal(failure) if isinstance(failure, Signal) else _by_error(failure)


def _by_signal(signal: Signal) -> Verdict:
    word = signal.reason or type(signal).__name__
    match signal:
        case CooldownResource():
            return Verdict(VerdictKind.RATE_LIMITED, sound_seconds(signal.seconds), word)
        case DisableResource():
            return Verdict(VerdictKind.AUTH, reason=word)
        case TryAgain():
            return Verdict(VerdictKind.TRANSIENT, sound_seconds(signal.after), word)
        case RestartWorker():
            return Verdict(VerdictKind.TRANSIENT, reason=word)
        case SkipTask() | StopPool() | TripBreaker():
            # Nobody's fault, and the pool of workers decides what becomes of the job.
            return Verdict(VerdictKind.CALLER_BUG, reason=word)
        case _:
            return Verdict(VerdictKind.UNKNOWN, reason=type(signal).__name__)


def _by_error(error: PolicyError) -> Verdict:
    name = type(error).__name__
    match error:
        case RejectedError():
            hint = sound_seconds(error.retry_after)
            # A displaced attempt was under way when it lost its resource.
            sent = isinstance(error, DisplacedError)
            return Verdict(VerdictKind.RATE_LIMITED, hint, name, sent=sent)
        case CallTimeoutError():
            return Verdict(VerdictKind.TIMEOUT, reason=name)
        case WorkerDiedError():
            return Verdict(VerdictKind.TRANSIENT, reason=name)
        case _:
            return Verdict(VerdictKind.CALLER_BUG, reason=name)


def sound_seconds(value: object) -> float | None:
    """Return a number of seconds that can be waited; None for anything else."""
    # Checked again: a subclass, or whoever holds the signal, may have set anything.
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if 0 <= value < math.inf else None
