"""The five stages on a real loop in real time: asyncio, or the one that the environment names."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from penstock import CallTimeoutError, CircuitOpenError, ConcurrencyLimitedError, Policy

pytestmark = [pytest.mark.integration, pytest.mark.real_time]


async def _work(seconds: float = 0.0) -> str:
    await asyncio.sleep(seconds)
    return "done"


async def test_a_rate_holds_in_real_time():
    """Twenty in a tenth of a second, never more, and not much later than they may."""
    policy, starts = Policy().with_rate("20/100ms"), list[float]()

    async def operation() -> None:
        starts.append(time.monotonic())

    await asyncio.gather(*(policy.call(operation) for _ in range(100)))

    assert all(b - a >= 0.0999 for a, b in zip(starts, starts[20:], strict=False))
    assert 0.4 <= starts[-1] - starts[0] < 0.8


async def test_a_burst_is_spaced_in_real_time():
    """A hundred a second, evenly, on a loop whose timers may be a millisecond early or late."""
    policy, starts = Policy().with_rate(100, burst=1), list[float]()

    async def operation() -> None:
        starts.append(time.monotonic())

    await asyncio.gather(*(policy.call(operation) for _ in range(30)))

    assert 0.27 <= starts[-1] - starts[0] < 0.6


async def test_a_timeout_ends_a_call_in_real_time():
    """Not before its limit, and soon after it; the loop's own clock may be coarser than ours."""
    policy = Policy().with_timeout(0.05)
    began = time.monotonic()

    with pytest.raises(CallTimeoutError):
        await policy.call(_work, 5)

    assert 0.049 <= time.monotonic() - began < 0.5
    assert await policy.call(_work) == "done"


async def test_retry_breaker_and_cap_work_together_in_real_time():
    """The circuit opens, refuses, and lets a probe in when it said it would."""
    policy = (
        Policy()
        .with_timeout(5)
        .with_retry(2, wait=0.001)
        .with_breaker(failures=2, recover_after=0.1)
        .with_concurrency(2, max_queue=0)
    )

    async def broken() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await policy.call(broken)
    with pytest.raises(CircuitOpenError) as refused:
        await policy.using(attempts=1).call(_work)
    await asyncio.sleep(refused.value.retry_after or 0)
    assert await policy.call(_work) == "done"
    results = await asyncio.gather(
        *(policy.using(attempts=1).call(_work, 0.05) for _ in range(3)), return_exceptions=True
    )
    assert [type(r) for r in results] == [str, str, ConcurrencyLimitedError]


async def test_a_stream_and_a_batch_work_on_the_loop():
    """Items are driven by hand through the loop's own futures."""
    policy = Policy().with_timeout(5).with_retry(2).with_concurrency(3)

    async def numbers() -> AsyncIterator[int]:
        for number in range(5):
            await asyncio.sleep(0.001)
            yield number

    async with policy.stream(numbers) as items:
        assert [item async for item in items] == [0, 1, 2, 3, 4]
    assert await policy.gather(_work, [0.001] * 10) == ["done"] * 10
    assert await policy.call(time.sleep, 0.001) is None
