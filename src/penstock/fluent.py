"""The fluent methods: one per stage, each a line of options."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, Unpack

from penstock.matching import Which
from penstock.options import MISSING, in_seconds
from penstock.stage import Stage

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter
    from pybreaker import CircuitBreaker
    from tenacity.retry import retry_base
    from tenacity.stop import stop_base
    from tenacity.wait import wait_base

    from penstock.keywords import BreakerKeywords
    from penstock.stages.rate_limit import Rate
    from penstock.stages.retry import Backoff

__all__ = ["FluentStages"]

Duration = float | timedelta
Accept = Callable[[Any], bool | Awaitable[bool]]


# Each stage is imported by the method that builds it: a program pays at its start for the stages
# that it uses.
# ruff: noqa: PLC0415


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
        from penstock.stages.timeout import Timeout, TimeoutOptions

        return self.with_stage(Timeout(TimeoutOptions(seconds=in_seconds(seconds))))

    def with_retry(
        self,
        attempts: int | None = None,
        wait: Duration | Backoff | wait_base | Callable[[int], float] | None = None,
        *,
        retry_on: Which | retry_base | None = None,
        accept: Accept | Sequence[Accept] | None = None,
        stop: Duration | stop_base | Callable[[int, float], bool] | None = None,
        on_retry: Callable[[int, Exception], object] | None = None,
        before_sleep: Callable[[Any], object] | None = None,
        max_server_delay: Duration | None = None,
        seed: int | None = None,
    ) -> Self:
        """Try again after failures that may pass: ``attempts`` calls in total, 3 unless set.

        See ``RetryOptions``; ``seed`` makes the jitter repeatable.
        """
        from penstock.stages.retry import Retry, RetryOptions

        # The options check them all, and are typed as what they store.
        given = _given(wait=wait, max_server_delay=max_server_delay, accept=accept, stop=stop)
        options = RetryOptions(
            attempts=attempts,
            retry_on=retry_on,
            on_retry=on_retry,
            before_sleep=before_sleep,
            **given,
        )
        return self.with_stage(Retry(options, seed=seed))

    def with_rate(
        self,
        rate: float
        | str
        | Rate
        | Sequence[float | str | Rate]
        | Mapping[str, float | str | Rate]
        | AsyncLimiter,
        burst: int | None = None,
        cost: float | Mapping[str, float] | Callable[[Any], Any] = 1,
        max_wait: Duration | None = None,
    ) -> Self:
        """Start at most so many calls: ``10`` a second, ``"600/min"``, ``"100/10s"``.

        See ``RateLimitOptions``; an ``aiolimiter.AsyncLimiter`` is used as it is.
        """
        from penstock.stages.rate_limit import rate_stage

        return self.with_stage(
            rate_stage(rate, burst=burst, cost=cost, max_wait=in_seconds(max_wait))
        )

    def with_breaker(
        self,
        failures: int | CircuitBreaker | None = None,
        recover_after: Duration | None = None,
        **options: Unpack[BreakerKeywords],
    ) -> Self:
        """Stop calling after ``failures`` in a row (5 unless set), for ``recover_after`` seconds.

        See ``BreakerOptions``; a ``pybreaker.CircuitBreaker`` is used as it is.
        """
        from penstock.stages.breaker import breaker_stage

        recovery = _given(recover_after=recover_after)
        return self.with_stage(breaker_stage(failures, **recovery, **options))

    def with_concurrency(
        self,
        limit: int,
        max_queue: int | None = None,
        max_wait: Duration | None = None,
    ) -> Self:
        """Let at most ``limit`` calls be under way; see ``ConcurrencyOptions``."""
        from penstock.stages.concurrency import Concurrency, ConcurrencyOptions

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
        from penstock.stages.fallback import Fallback, FallbackOptions

        options = FallbackOptions(
            value=value, function=function, policy=policy, fallback_on=fallback_on
        )
        return self.with_stage(Fallback(options))

    def with_budget(
        self,
        ratio: float | None = None,
        min_per_second: float | None = None,
        window: Duration | None = None,
    ) -> Self:
        """Bound the load that retries further in may add; see ``BudgetOptions``."""
        from penstock.stages.budget import Budget, BudgetOptions

        given = _given(ratio=ratio, min_per_second=min_per_second, window=window)
        return self.with_stage(Budget(BudgetOptions(**given)))


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
