"""The same five concerns, built as each library's own pages say.

Everybody gets three attempts without a wait on ``ConnectionError`` or ``TimeoutError``, a rate so
high that nobody waits, a breaker that opens after five failures in a row, 100 calls at once, and
five seconds per attempt. All are built inside the running loop, because hyx has to be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from bench.harness import Operation
from bench.inline import inline
from penstock import Policy

__all__ = [
    "COMPOSITES",
    "DECORATED",
    "HAND_STACKED",
    "INLINE",
    "INLINE_ASYNCIO",
    "PENSTOCK",
    "contestants",
    "hand_stacked",
    "penstock_policy",
]

PENSTOCK = "penstock, policy.call(fn)"
DECORATED = "penstock, @policy"
HAND_STACKED = "hand-stacked"
INLINE = "all inline, one loop timer per attempt"
INLINE_ASYNCIO = "all inline, asyncio.timeout"
HYX, PYRESILIENCE, RESILIX = "hyx", "pyresilience", "resilix with aiolimiter"
COMPOSITES = (HYX, PYRESILIENCE, RESILIX)

ATTEMPTS, RATE, LIMIT, SECONDS, MAX_FAILURES, RECOVER_AFTER = 3, 1_000_000, 100, 5.0, 5, 30.0

_RETRIED = (ConnectionError, TimeoutError)


def contestants(operation: Operation, *, bounded: bool = True) -> dict[str, Operation]:
    """Return everybody who is installed, round one operation each; ``bounded`` adds the timeout."""
    policy = penstock_policy(bounded=bounded)
    everybody: dict[str, Operation] = {
        PENSTOCK: partial(policy.call, operation),
        DECORATED: penstock_policy(bounded=bounded).wrap(operation),
        HAND_STACKED: hand_stacked(operation, bounded=bounded),
    }
    for name, package, build in (
        (HYX, "hyx", _hyx),
        (PYRESILIENCE, "pyresilience", _pyresilience),
        (RESILIX, "resilix", _resilix),
    ):
        if find_spec(package) is not None:
            everybody[name] = build(operation, bounded=bounded)
    everybody[INLINE if bounded else "all inline"] = inline(
        operation, "loop timer" if bounded else "none"
    )
    if bounded:
        everybody[INLINE_ASYNCIO] = inline(operation, "asyncio.timeout")
    return everybody


def penstock_policy(*, bounded: bool = True) -> Policy:
    """Return the pipeline that everybody rebuilds."""
    policy = (
        Policy("bench")
        .with_retry(ATTEMPTS, wait=0)
        .with_rate(RATE)
        .with_breaker(MAX_FAILURES, recover_after=RECOVER_AFTER)
        .with_concurrency(LIMIT)
    )
    return policy.with_timeout(SECONDS) if bounded else policy


def hand_stacked(operation: Operation, *, bounded: bool) -> Operation:
    """Return the operation with tenacity, aiolimiter, pybreaker, a semaphore and a timeout."""
    from aiolimiter import AsyncLimiter  # noqa: PLC0415 - as the other contestants
    from pybreaker import CircuitBreaker  # noqa: PLC0415
    from tenacity import (  # noqa: PLC0415
        retry,
        retry_if_exception_type,
        stop_after_attempt,
        wait_none,
    )

    limiter = AsyncLimiter(RATE, 1)
    # Its ``call_async`` is for tornado alone. ``calling()`` round an await is what programs use.
    breaker = CircuitBreaker(fail_max=MAX_FAILURES, reset_timeout=RECOVER_AFTER)
    semaphore = asyncio.Semaphore(LIMIT)

    async def unbounded() -> object:
        async with limiter:
            with breaker.calling():
                async with semaphore:
                    return await operation()

    async def within_time() -> object:
        async with limiter:
            with breaker.calling():
                async with semaphore, asyncio.timeout(SECONDS):
                    return await operation()

    again = retry(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_none(),
        retry=retry_if_exception_type(_RETRIED),
        reraise=True,
    )
    return again(within_time if bounded else unbounded)


def _hyx(operation: Operation, *, bounded: bool) -> Operation:
    from hyx.bulkhead import bulkhead  # noqa: PLC0415 - optional
    from hyx.circuitbreaker import consecutive_breaker  # noqa: PLC0415
    from hyx.ratelimit import tokenbucket  # noqa: PLC0415
    from hyx.retry import retry  # noqa: PLC0415
    from hyx.timeout import timeout  # noqa: PLC0415

    stages: list[Callable[..., Operation]] = [
        timeout(SECONDS),
        bulkhead(max_concurrency=LIMIT, max_capacity=10 * LIMIT),
        consecutive_breaker(failure_threshold=MAX_FAILURES, recovery_time_secs=RECOVER_AFTER),
        tokenbucket(RATE, 1),
        retry(on=_RETRIED, attempts=ATTEMPTS, backoff=0.0),
    ]
    for stage in stages if bounded else stages[1:]:
        operation = stage(operation)
    return operation


def _pyresilience(operation: Operation, *, bounded: bool) -> Operation:
    from pyresilience import (  # noqa: PLC0415 - optional
        BulkheadConfig,
        CircuitBreakerConfig,
        RateLimiterConfig,
        RetryConfig,
        TimeoutConfig,
        resilient,
    )

    protect = resilient(
        retry=RetryConfig(max_attempts=ATTEMPTS, delay=0, jitter=False, retry_on=_RETRIED),
        timeout=TimeoutConfig(seconds=SECONDS) if bounded else None,
        circuit_breaker=CircuitBreakerConfig(
            failure_threshold=MAX_FAILURES, recovery_timeout=RECOVER_AFTER
        ),
        bulkhead=BulkheadConfig(max_concurrent=LIMIT),
        rate_limiter=RateLimiterConfig(max_calls=RATE, period=1.0),
    )
    return protect(operation)


def _resilix(operation: Operation, *, bounded: bool) -> Operation:
    from aiolimiter import AsyncLimiter  # noqa: PLC0415 - optional
    from resilix import protect  # noqa: PLC0415

    limiter = AsyncLimiter(RATE, 1)

    async def limited() -> object:
        async with limiter:
            return await operation()

    broken = protect.circuit(failures=MAX_FAILURES, reset_timeout=RECOVER_AFTER)(limited)
    # What is stacked without a gap becomes one flat policy, which is its fastest form.
    policy = protect.timeout(SECONDS)(broken) if bounded else broken
    return protect.when(_RETRIED, retry=ATTEMPTS)(protect.bulkhead(LIMIT)(policy))
