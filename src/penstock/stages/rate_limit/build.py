"""What ``with_rate`` makes of its arguments."""

from __future__ import annotations

from typing import Any

from penstock.options import checked_cost
from penstock.stages.rate_limit.adapter import AiolimiterRate, is_async_limiter
from penstock.stages.rate_limit.options import RateLimitOptions
from penstock.stages.rate_limit.stage import RateLimit

__all__ = ["rate_stage"]


def rate_stage(
    rate: Any, *, burst: int | None = None, cost: Any = 1, max_wait: float | None = None
) -> RateLimit | AiolimiterRate:
    """Return the stage for a rate as written, or for the caller's own ``AsyncLimiter``.

    Raises:
        ConfigError: A value is not allowed, or an option does not go with an ``AsyncLimiter``.
    """
    if not is_async_limiter(rate):
        return RateLimit(RateLimitOptions(rate=rate, burst=burst, cost=cost, max_wait=max_wait))
    for name, value in (("burst", burst), ("max_wait", max_wait)):
        if value is not None:
            raise RateLimitOptions.refuse(name, value, "left out: the AsyncLimiter brings its own")
    if callable(cost) or not 0 < checked_cost("rate_limit: 'cost'", cost) <= rate.max_rate:
        allowed = f"a number above 0 and at most {rate.max_rate:g}, for this AsyncLimiter"
        raise RateLimitOptions.refuse("cost", cost, allowed)
    return AiolimiterRate(rate, cost)
