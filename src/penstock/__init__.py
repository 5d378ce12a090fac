"""Policies round any awaitable: retry, rate limit, breaker, concurrency, timeout and more."""

from typing import TYPE_CHECKING, Any

from penstock.call import Call, current_call, current_lease, current_resource
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
    PoolStoppedError,
    RateLimitedError,
    RejectedError,
    RemoteError,
    WorkerDiedError,
)
from penstock.events import Event, Observer
from penstock.health import Health
from penstock.policy import Policy
from penstock.signals import RestartWorker, SkipTask, StopPool, TripBreaker
from penstock.stage import Handler, Stage
from penstock.verdict import CooldownResource, DisableResource, TryAgain, Verdict, VerdictKind

if TYPE_CHECKING:
    from penstock.pool import Pool
    from penstock.pools.lease import Lease
    from penstock.pools.resource import Resource
    from penstock.rotating import RotatingPolicy
    from penstock.workers.functions import FunctionPool
    from penstock.workers.job import Job
    from penstock.workers.options import Escalation
    from penstock.workers.pool import WorkerPool
    from penstock.workers.worker import Worker

__all__ = [
    "BudgetExhaustedError",
    "Call",
    "CallTimeoutError",
    "CircuitOpenError",
    "ConcurrencyLimitedError",
    "ConfigError",
    "CooldownResource",
    "DisableResource",
    "Escalation",
    "Event",
    "FunctionPool",
    "Handler",
    "Health",
    "InvalidResultError",
    "Job",
    "Lease",
    "NoResourceError",
    "Observer",
    "Policy",
    "PolicyError",
    "PolicyOrderWarning",
    "Pool",
    "PoolStoppedError",
    "RateLimitedError",
    "RejectedError",
    "RemoteError",
    "Resource",
    "RestartWorker",
    "RotatingPolicy",
    "SkipTask",
    "Stage",
    "StopPool",
    "TripBreaker",
    "TryAgain",
    "Verdict",
    "VerdictKind",
    "Worker",
    "WorkerDiedError",
    "WorkerPool",
    "current_call",
    "current_lease",
    "current_resource",
]

# A program that does not rotate does not pay for it at its start.
_WHEN_ASKED_FOR = {
    "Escalation": "penstock.workers.options",
    "FunctionPool": "penstock.workers.functions",
    "Job": "penstock.workers.job",
    "Lease": "penstock.pools.lease",
    "Pool": "penstock.pool",
    "Resource": "penstock.pools.resource",
    "RotatingPolicy": "penstock.rotating",
    "Worker": "penstock.workers.worker",
    "WorkerPool": "penstock.workers.pool",
}


def __getattr__(name: str) -> Any:
    if name not in _WHEN_ASKED_FOR:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - as above

    value = globals()[name] = getattr(import_module(_WHEN_ASKED_FOR[name]), name)
    return value
