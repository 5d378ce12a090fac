"""A wait is told however it ended, so that waits and attempts add up to the whole call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiolimiter import AsyncLimiter

from penstock import Policy, Resource
from penstock.events import CallEnded, WaitEnded
from penstock.testing import EventLog, scripted, takes

pytestmark = pytest.mark.virtual_time

Build = Callable[[Policy], Policy]

STAGES: dict[str, Build] = {
    "concurrency": lambda policy: policy.with_concurrency(1, max_wait=3),
    "rate_limit": lambda policy: policy.with_rate("1/10s"),
    "queue": lambda policy: policy.rotating(
        [Resource("a", max_in_flight=1)], inject=None, max_wait=3
    ),
}


@pytest.fixture
def log() -> EventLog:
    """Keep all events."""
    return EventLog()


async def _occupied(policy: Policy) -> asyncio.Task[Any]:
    first = asyncio.create_task(policy.call(scripted(takes(9))))
    await asyncio.sleep(0)
    return first


@pytest.mark.parametrize("stage", STAGES)
async def test_a_cancelled_wait_is_told(stage: str, log: EventLog):
    """With the seconds that it took until then."""
    policy = STAGES[stage](Policy(observers=[log]))
    first = await _occupied(policy)
    waiting = asyncio.create_task(policy.call(scripted("done")))
    await asyncio.sleep(2)

    waiting.cancel()
    await asyncio.wait([waiting])

    assert log.only(WaitEnded, stage=stage, seconds=2)
    assert log.only(CallEnded, outcome="cancelled", duration=2)
    await first


@pytest.mark.parametrize("stage", STAGES)
async def test_a_wait_that_a_timeout_cuts_off_is_told(stage: str, log: EventLog):
    """It is all that the call has done."""
    policy = STAGES[stage](Policy(observers=[log]))
    first = await _occupied(policy)
    waiting = asyncio.create_task(_cut_off(policy.call(scripted("done")), after=2))

    assert await waiting == "cut off"

    assert log.only(WaitEnded, stage=stage, seconds=2)
    await first


async def _cut_off(call: Any, *, after: float) -> str:
    try:
        async with asyncio.timeout(after):
            await call
    except TimeoutError:
        return "cut off"
    return "not cut off"


@pytest.mark.parametrize("stage", ["concurrency", "queue"])
async def test_a_wait_that_was_in_vain_is_told(stage: str, log: EventLog):
    """Patience ran out: the refusal comes after the wait."""
    policy = STAGES[stage](Policy(observers=[log]))
    first = await _occupied(policy)

    (outcome,) = await asyncio.gather(policy.call(scripted("done")), return_exceptions=True)

    assert type(outcome).__name__ in {"ConcurrencyLimitedError", "NoResourceError"}
    assert log.only(WaitEnded, stage=stage, seconds=3)
    assert log.only(CallEnded, outcome="rejected", duration=3)
    await first


async def test_a_cancelled_wait_for_aiolimiter_is_told(log: EventLog):
    """As that for a limiter of ours."""
    policy = Policy(observers=[log]).with_rate(AsyncLimiter(1, 10))
    await policy.call(scripted("done"))
    waiting = asyncio.create_task(policy.call(scripted("done")))
    await asyncio.sleep(2)

    waiting.cancel()
    await asyncio.wait([waiting])

    assert log.only(WaitEnded, stage="rate_limit").seconds == pytest.approx(2)


async def _slow_hook(*_: object) -> bool:
    await asyncio.sleep(2)
    return True


@pytest.mark.parametrize(
    "build",
    [
        lambda policy: policy.with_retry(2, 0, on_retry=_slow_hook),
        lambda policy: policy.with_retry(2, 0, retry_on=_slow_hook),
        lambda policy: policy.with_fallback(value=1, fallback_on=_slow_hook),
    ],
    ids=["on_retry", "retry_on", "fallback_on"],
)
async def test_the_time_of_an_async_hook_is_told(build: Build, log: EventLog):
    """It is neither a wait of a stage nor part of an attempt."""
    await build(Policy(observers=[log])).call(scripted(ConnectionError, "done"))

    assert log.only(WaitEnded, stage="hook", seconds=2)
    assert log.only(CallEnded, duration=2)


async def _slow_refusal(_: object) -> bool:
    await asyncio.sleep(2)
    return False


async def test_the_time_of_a_validator_is_told(log: EventLog):
    """A result is not good before it was looked at."""
    policy = Policy(observers=[log]).with_retry(2, 0, accept=_slow_refusal)

    await asyncio.gather(policy.call(scripted(then="bad")), return_exceptions=True)

    assert [event.seconds for event in log.of(WaitEnded, stage="hook")] == [2, 2]


async def test_the_time_of_a_fallback_is_told(log: EventLog):
    """A value takes none."""
    asked = Policy(observers=[log]).with_fallback(function=_slow_hook)

    await asked.call(scripted(OSError))
    assert log.only(WaitEnded, stage="fallback", seconds=2)

    log.clear()
    await Policy(observers=[log]).with_fallback(value=1).call(scripted(OSError))
    log.assert_none(WaitEnded)
