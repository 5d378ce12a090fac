"""A rate limit stage round the caller's own ``aiolimiter.AsyncLimiter``, used as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from penstock import clock
from penstock.call import Call
from penstock.events import WaitEnded
from penstock.stage import Handler

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

__all__ = ["AiolimiterRate", "is_async_limiter"]


def is_async_limiter(rate: object) -> bool:
    """Whether this is an ``AsyncLimiter``, found out without importing aiolimiter."""
    return any(
        base.__module__.partition(".")[0] == "aiolimiter" and base.__name__ == "AsyncLimiter"
        for base in type(rate).__mro__
    )


class AiolimiterRate:
    """Acquire the caller's limiter before each start.

    Its bucket, its order and its cost rules are aiolimiter's own: nothing comes back on a failure,
    and a limiter shared with other code keeps being shared.

    Args:
        limiter: The limiter.
        cost: Units for a call, above 0 and at most the limiter's ``max_rate``.
    """

    __slots__ = ("_cost", "limiter")

    name = "rate_limit"
    admits = True

    def __init__(self, limiter: AsyncLimiter, cost: float = 1) -> None:
        self.limiter = limiter
        self._cost = cost

    async def __call__(self, call: Call, call_next: Handler, /) -> Any:
        """Start the rest of the pipeline when the limiter lets it."""
        cost = call.cost if isinstance(call.cost, int | float) else self._cost
        if call.notify is None or self.limiter.has_capacity(cost):
            await self.limiter.acquire(cost)
        else:
            await self._wait(call, cost)
        return await call_next(call)

    def fresh(self) -> Self:
        """Return a stage of the same limiter: it is the caller's, and stays shared."""
        return type(self)(self.limiter, self._cost)

    def snapshot(self) -> dict[str, Any]:
        """Return the limiter's rate and whether a call could start now."""
        return {
            "stage": self.name,
            "rates": [f"{self.limiter.max_rate:g}/{self.limiter.time_period:g}s"],
            "has_capacity": self.limiter.has_capacity(self._cost),
        }

    async def _wait(self, call: Call, cost: float) -> None:
        began = clock.now()
        try:
            await self.limiter.acquire(cost)
        finally:
            call.emit(WaitEnded, stage=self.name, seconds=clock.now() - began)
