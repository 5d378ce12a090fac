"""The stages that YAML knows: one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from penstock.config.block import Block
from penstock.config.forms.backoff import Stop, Wait
from penstock.config.forms.failures import Failures, Several
from penstock.config.forms.policies import PolicyName
from penstock.config.forms.pools import Cooldown, Dimension, Inject, Pick
from penstock.config.forms.rates import Cost, Rates
from penstock.config.forms.resources import Resources
from penstock.config.settings import SETTINGS, PolicySettings
from penstock.stages.breaker import Breaker, BreakerOptions
from penstock.stages.budget import Budget, BudgetOptions
from penstock.stages.concurrency import Concurrency, ConcurrencyOptions
from penstock.stages.fallback import Fallback, FallbackOptions
from penstock.stages.rate_limit import RateLimit, RateLimitOptions
from penstock.stages.retry import Retry, RetryOptions
from penstock.stages.rotation import Rotation, RotationOptions
from penstock.stages.timeout import Timeout, TimeoutOptions

__all__ = ["LATER", "OTHER_WORDS", "SETTINGS", "STAGES", "PolicySettings", "StageEntry"]

_ROTATE = {
    "resources": Resources,
    "cooldown": Cooldown,
    "pick": Pick,
    "dimension": Dimension,
    "url": Dimension,
    "inject": Inject,
}
_RETRY = {"wait": Wait, "retry_on": Failures, "accept": Several, "stop": Stop}


@dataclass(frozen=True, slots=True)
class StageEntry:
    """One stage of YAML.

    Attributes:
        block: Key, options class, short form, and the forms of its options.
        make: Makes the stage from the options.
    """

    block: Block
    make: Callable[[Any], Any]


def _line(
    key: str, options: Any, make: Callable[[Any], Any], short: str | None, **forms: Any
) -> StageEntry:
    return StageEntry(Block(key, options, short, forms), make)


_LINES = (
    _line("timeout", TimeoutOptions, Timeout, "seconds"),
    _line("retry", RetryOptions, Retry, "attempts", **_RETRY),
    _line("rate", RateLimitOptions, RateLimit, "rate", rate=Rates, cost=Cost),
    _line("breaker", BreakerOptions, Breaker, "failures"),
    _line("concurrency", ConcurrencyOptions, Concurrency, "limit"),
    _line("fallback", FallbackOptions, Fallback, "function", policy=PolicyName),
    _line("budget", BudgetOptions, Budget, "ratio"),
    _line("rotate", RotationOptions, Rotation, "resources", **_ROTATE),
)

STAGES: dict[str, StageEntry] = {entry.block.key: entry for entry in _LINES}
"""Every stage by its key."""

LATER = ("hedge", "adaptive_concurrency", "chaos")
"""Keys of stages that a later release brings."""

OTHER_WORDS = {
    "rate_limit": "rate",
    "ratelimit": "rate",
    "rate_limiter": "rate",
    "limiter": "rate",
    "throttle": "rate",
    "circuit_breaker": "breaker",
    "bulkhead": "concurrency",
    "semaphore": "concurrency",
    "retries": "retry",
    "deadline": "timeout",
    "rotation": "rotate",
    "rotating": "rotate",
    "hedging": "hedge",
}
"""What other libraries call a stage, for "did you mean"."""
