"""Policies round any awaitable: retry, rate limit, breaker, concurrency, timeout and more."""

from penstock.call import Call, current_call
from penstock.errors import (
    BudgetExhaustedError,
    CallTimeoutError,
    CircuitOpenError,
    ConcurrencyLimitedError,
    ConfigError,
    InvalidResultError,
    NoResourceError,
    PolicyError,
    PolicyOrderWarning,
    RateLimitedError,
    RejectedError,
)
from penstock.events import Event, Observer
from penstock.policy import Policy
from penstock.stage import Handler, Stage
from penstock.verdict import CooldownResource, DisableResource, TryAgain, Verdict, VerdictKind

__all__ = [
    "BudgetExhaustedError",
    "Call",
    "CallTimeoutError",
    "CircuitOpenError",
    "ConcurrencyLimitedError",
    "ConfigError",
    "CooldownResource",
    "DisableResource",
    "Event",
    "Handler",
    "InvalidResultError",
    "NoResourceError",
    "Observer",
    "Policy",
    "PolicyError",
    "PolicyOrderWarning",
    "RateLimitedError",
    "RejectedError",
    "Stage",
    "TryAgain",
    "Verdict",
    "VerdictKind",
    "current_call",
]
