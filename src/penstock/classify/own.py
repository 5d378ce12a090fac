"""What penstock's own signals and errors mean."""

from __future__ import annotations

import math

from penstock.errors import CallTimeoutError, DisplacedError, PolicyError, RejectedError
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
    name = type(failure).__name__
    match failure:
        case CooldownResource():
            return Verdict(VerdictKind.RATE_LIMITED, sound_seconds(failure.seconds), _word(failure))
        case DisableResource():
            return Verdict(VerdictKind.AUTH, reason=_word(failure))
        case TryAgain():
            return Verdict(VerdictKind.TRANSIENT, sound_seconds(failure.after), _word(failure))
        case RejectedError():
            hint = sound_seconds(failure.retry_after)
            # A displaced attempt was under way when it lost its resource.
            sent = isinstance(failure, DisplacedError)
            return Verdict(VerdictKind.RATE_LIMITED, hint, name, sent=sent)
        case CallTimeoutError():
            return Verdict(VerdictKind.TIMEOUT, reason=name)
        case _:
            mistaken = isinstance(failure, PolicyError)
            return Verdict(VerdictKind.CALLER_BUG if mistaken else VerdictKind.UNKNOWN, reason=name)


def sound_seconds(value: object) -> float | None:
    """Return a number of seconds that can be waited; None for anything else."""
    # Checked again: a subclass, or whoever holds the signal, may have set anything.
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if 0 <= value < math.inf else None


def _word(signal: Signal) -> str:
    return signal.reason or type(signal).__name__
