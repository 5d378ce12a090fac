"""What an outcome means: the kinds, what each stage does about them, and the signals.

``EFFECTS`` is the whole table. A failure (or a result) is classified once per attempt; every stage
reads the same verdict, and none has a filter of its own unless the user gives it one.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable
from dataclasses import dataclass

from penstock.errors import ConfigError

__all__ = [
    "EFFECTS",
    "OK",
    "BreakerEffect",
    "CooldownResource",
    "DisableResource",
    "Effects",
    "LimiterEffect",
    "RetryEffect",
    "RotationEffect",
    "Signal",
    "TryAgain",
    "Verdict",
    "VerdictKind",
]


class VerdictKind(enum.Enum):
    """What an attempt's outcome was; the values are the words used in YAML."""

    # Members are singletons. Enum's own hash is a Python function, paid at every look into EFFECTS.
    __hash__ = object.__hash__

    OK = "ok"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXHAUSTED = "quota_exhausted"
    AUTH = "auth"
    OVERLOADED = "overloaded"
    TRANSIENT = "transient"
    TIMEOUT = "timeout"
    CALLER_BUG = "caller_bug"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class RetryEffect(enum.Enum):
    """What retry does: never, after back-off, at the server's hint, or only elsewhere."""

    NEVER = "never"
    AFTER_BACKOFF = "after_backoff"
    AT_HINT = "at_hint"
    ELSEWHERE = "elsewhere"


class BreakerEffect(enum.Enum):
    """What a breaker records; NEUTRAL gives a probe back and moves nothing."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"


class RotationEffect(enum.Enum):
    """What happens to the resource that served the attempt."""

    HEALTHY = "healthy"
    COOL_DOWN = "cool_down"
    DISABLE = "disable"
    PENALISE = "penalise"
    NEUTRAL = "neutral"


class LimiterEffect(enum.Enum):
    """What a rate limit does with the cost the attempt has paid."""

    SETTLE = "settle"
    PAUSE = "pause"
    REFUND = "refund"
    REFUND_UNSENT = "refund_unsent"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Effects:
    """One row of the table: what each stage does about a kind."""

    retry: RetryEffect
    breaker: BreakerEffect
    rotation: RotationEffect
    limiter: LimiterEffect


EFFECTS: dict[VerdictKind, Effects] = {
    VerdictKind.OK: Effects(
        RetryEffect.NEVER, BreakerEffect.SUCCESS, RotationEffect.HEALTHY, LimiterEffect.SETTLE
    ),
    VerdictKind.RATE_LIMITED: Effects(
        RetryEffect.AT_HINT, BreakerEffect.NEUTRAL, RotationEffect.COOL_DOWN, LimiterEffect.PAUSE
    ),
    VerdictKind.QUOTA_EXHAUSTED: Effects(
        RetryEffect.AT_HINT, BreakerEffect.NEUTRAL, RotationEffect.DISABLE, LimiterEffect.PAUSE
    ),
    VerdictKind.AUTH: Effects(
        RetryEffect.ELSEWHERE, BreakerEffect.NEUTRAL, RotationEffect.DISABLE, LimiterEffect.REFUND
    ),
    VerdictKind.OVERLOADED: Effects(
        RetryEffect.AFTER_BACKOFF,
        BreakerEffect.FAILURE,
        RotationEffect.PENALISE,
        LimiterEffect.KEEP,
    ),
    VerdictKind.TRANSIENT: Effects(
        RetryEffect.AFTER_BACKOFF,
        BreakerEffect.FAILURE,
        RotationEffect.PENALISE,
        LimiterEffect.REFUND_UNSENT,
    ),
    VerdictKind.TIMEOUT: Effects(
        RetryEffect.AFTER_BACKOFF,
        BreakerEffect.FAILURE,
        RotationEffect.PENALISE,
        LimiterEffect.KEEP,
    ),
    VerdictKind.CALLER_BUG: Effects(
        RetryEffect.NEVER, BreakerEffect.NEUTRAL, RotationEffect.HEALTHY, LimiterEffect.SETTLE
    ),
    VerdictKind.CANCELLED: Effects(
        RetryEffect.NEVER, BreakerEffect.NEUTRAL, RotationEffect.NEUTRAL, LimiterEffect.KEEP
    ),
    VerdictKind.UNKNOWN: Effects(
        RetryEffect.AFTER_BACKOFF,
        BreakerEffect.FAILURE,
        RotationEffect.HEALTHY,
        LimiterEffect.SETTLE,
    ),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one attempt's outcome means.

    Attributes:
        kind: The row of ``EFFECTS`` that applies.
        retry_after: Seconds from now, at least 0, when the server (or a signal) said so.
        reason: A short word for logs and events, for example ``"503"``; never exception text,
            which may hold keys and URLs.
        sent: False when it is certain that nothing reached the server.
    """

    kind: VerdictKind
    retry_after: float | None = None
    reason: str | None = None
    sent: bool = True

    @property
    def effects(self) -> Effects:
        """The row of the table for this verdict."""
        return EFFECTS[self.kind]


OK = Verdict(VerdictKind.OK)


def _checked_seconds(field: str, value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        msg = f"{field} must be a finite number of seconds, at least 0, or None; got {value!r}"
        raise ConfigError(msg)
    return value


class Signal(Exception):  # noqa: N818 - a request to the policy, not an error
    """Base of what an operation may raise to tell the policy what to do."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason or type(self).__name__)
        self.reason = reason

    def __reduce__(self) -> tuple[Callable[..., Signal], tuple[object, ...], dict[str, object]]:
        """Let a signal travel between processes.

        Exceptions are rebuilt by calling their class with ``args``, which is the message; signals
        have other arguments, in an order of their own.
        """
        return _rebuilt, (type(self), self.args), vars(self)


def _rebuilt(kind: type[Signal], args: tuple[object, ...]) -> Signal:
    return kind.__new__(kind, *args)


class CooldownResource(Signal):
    """Rest the resource in use: it is rate limited.

    Args:
        seconds: How long to rest, at least 0; None takes the pool's escalation table.
        reason: For logs and events.

    Raises:
        ConfigError: ``seconds`` is negative, NaN or infinite.
    """

    def __init__(self, seconds: float | None = None, reason: str | None = None) -> None:
        super().__init__(reason)
        self.seconds = _checked_seconds("CooldownResource.seconds", seconds)


class DisableResource(Signal):
    """Take the resource in use out until somebody enables it again: it is refused or revoked."""


class TryAgain(Signal):
    """Spend this attempt and try again; the resource is not to blame.

    Args:
        reason: For logs and events.
        after: Seconds to wait at least, at least 0; None leaves it to the back-off.

    Raises:
        ConfigError: ``after`` is negative, NaN or infinite.
    """

    def __init__(self, reason: str | None = None, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = _checked_seconds("TryAgain.after", after)
