"""The fluent methods: one per stage, each a line of options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from penstock.matching import Which
from penstock.options import in_seconds
from penstock.stage import Stage
from penstock.stages.breaker import breaker_stage
from penstock.stages.budget import Budget, BudgetOptions
from penstock.stages.concurrency import Concurrency, ConcurrencyOptions
from penstock.stages.fallback import MISSING, Fallback, FallbackOptions
from penstock.stages.rate_limit import Rate, rate_stage
from penstock.stages.retry import Retry, RetryOptions
from penstock.stages.timeout import Timeout, TimeoutOptions

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter
    from pybreaker import CircuitBreaker

__all__ = ["FluentStages"]

Duration = float | timedelta
RateLike = float | str | Rate


class FluentStages:
    """The ``with_*`` methods of ``Policy``; each returns a new policy with one more stage inside.

    The options of a stage, with their units and bounds, are documented on its options class; each
    method raises ``ConfigError`` for a value that is not allowed.
    """

    __slots__ = ()

    def with_stage(self, stage: Stage) -> Self:
        """Return a policy with one more stage, inside those already there."""
        raise NotImplementedError

    def with_timeout(self, seconds: Duration) -> Self:
        """Bound the call (outside retry) or each attempt (inside retry) to ``seconds``."""
        return self.with_stage(Timeout(TimeoutOptions(seconds=in_seconds(seconds))))

    def with_retry(
        self,
        attempts: int | None = None,
        wait: Any = None,
        *,
        retry_on: Any = None,
        accept: Any = None,
        stop: Any = None,
        on_retry: Callable[[int, Exception], object] | None = None,
        before_sleep: Callable[[Any], object] | None = None,
        max_server_delay: Duration | None = None,
        seed: int | None = None,
    ) -> Self:
        """Try again after failures that may pass: ``attempts`` calls in total, 3 unless set.

        See ``RetryOptions``; ``seed`` makes the jitter repeatable.
        """
        given: dict[str, Any] = {"wait": wait, "max_server_delay": max_server_delay}
        options = RetryOptions(
            attempts=attempts,
            retry_on=retry_on,
            accept=accept,
            stop=stop,
            on_retry=on_retry,
            before_sleep=before_sleep,
            **{name: value for name, value in given.items() if value is not None},
        )
        return self.with_stage(Retry(options, seed=seed))

    def with_rate(
        self,
        rate: RateLike | Sequence[RateLike] | Mapping[str, RateLike] | AsyncLimiter,
        burst: int | None = None,
        cost: float | Mapping[str, float] | Callable[[Any], Any] = 1,
        max_wait: Duration | None = None,
    ) -> Self:
        """Start at most so many calls: ``10`` a second, ``"600/min"``, ``"100/10s"``.

        See ``RateLimitOptions``; an ``aiolimiter.AsyncLimiter`` is used as it is.
        """
        return self.with_stage(
            rate_stage(rate, burst=burst, cost=cost, max_wait=in_seconds(max_wait))
        )

    def with_breaker(
        self,
        failures: int | CircuitBreaker | None = None,
        recover_after: Duration | None = None,
        **options: Any,
    ) -> Self:
        """Stop calling after ``failures`` in a row (5 unless set), for ``recover_after`` seconds.

        See ``BreakerOptions``; a ``pybreaker.CircuitBreaker`` is used as it is.
        """
        if recover_after is not None:
            options["recover_after"] = recover_after
        return self.with_stage(breaker_stage(failures, **options))

    def with_concurrency(
        self,
        limit: int,
        max_queue: int | None = None,
        max_wait: Duration | None = None,
    ) -> Self:
        """Let at most ``limit`` calls be under way; see ``ConcurrencyOptions``."""
        options = ConcurrencyOptions(
            limit=limit, max_queue=max_queue, max_wait=in_seconds(max_wait)
        )
        return self.with_stage(Concurrency(options))

    def with_fallback(
        self,
        function: Callable[..., Any] | None = None,
        *,
        value: Any = MISSING,
        policy: Any = None,
        fallback_on: Which | None = None,
    ) -> Self:
        """Answer a failed call with a value, a function's result or another policy's result.

        See ``FallbackOptions``.
        """
        options = FallbackOptions(
            value=value, function=function, policy=policy, fallback_on=fallback_on
        )
        return self.with_stage(Fallback(options))

    def with_budget(self, **options: Any) -> Self:
        """Bound the load that retries further in may add; see ``BudgetOptions``."""
        return self.with_stage(Budget(BudgetOptions(**options)))
