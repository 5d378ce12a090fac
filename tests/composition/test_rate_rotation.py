"""A rate limit over a pool: nothing is spent in vain, and the promise holds when the pool opens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from itertools import pairwise
from typing import Any

import pytest

from penstock import CooldownResource, NoResourceError, Policy, Pool, Resource
from penstock.testing import Sweep, cancel_sweep, scripted, takes

pytestmark = pytest.mark.virtual_time


def _keys(count: int = 2, **options: Any) -> Pool[str]:
    return Pool(dict.fromkeys("abc"[:count], "value"), pick="primary_backup", **options)


def _start(*calls: Awaitable[Any]) -> list[asyncio.Future[Any]]:
    return [asyncio.ensure_future(call) for call in calls]


def _available(policy: Policy) -> float:
    (rate,) = (s for s in policy.snapshot()["stages"] if s["stage"] == "rate_limit")
    return float(rate["available"][0])


async def _cool(pool: Pool[str]) -> None:
    """Send every resource to rest."""
    while pool.health().ready:
        async with pool.lease() as lease:
            lease.cooldown()


def _assert_rate(times: list[float], most: int, seconds: float = 1) -> None:
    """Never more than ``most`` starts in any window of ``seconds``."""
    for first, last in zip(times, times[most:], strict=False):
        assert last - first >= seconds - 1e-9, times


@pytest.mark.parametrize("cost", [1, 2, lambda call: 1], ids=["plain", "two units", "metered"])
async def test_no_token_is_spent_while_every_resource_rests(cost: Any):
    """Given a pool that is back in 30 s, then twenty calls spend nothing before that."""
    pool = _keys(cooldown=30)
    policy = Policy().with_timeout(100).with_rate(10, cost=cost).rotating(pool)
    await _cool(pool)
    operation = scripted(then="done")

    tasks = _start(*(policy.call(operation) for _ in range(20)))
    await asyncio.sleep(29.9)
    before = (_available(policy), len(operation.calls), pool.stats().waiting)
    await asyncio.gather(*tasks)

    assert before == (10, 0, 20)
    assert operation.times[0] == 30
    _assert_rate(operation.times, 5 if cost == 2 else 10)


async def test_a_call_that_nobody_will_serve_in_time_spends_nothing():
    """Given a deadline before the return, or none at all, then it is refused at the gate."""
    pool = _keys(cooldown=30)
    await _cool(pool)
    soon = Policy().with_timeout(10).with_rate(10).rotating(pool)
    never = Policy().with_rate(10).rotating(pool)

    for policy, case in ((soon, "deadline"), (never, "all_cooling")):
        with pytest.raises(NoResourceError) as refusal:
            await policy.call(scripted("never"))
        assert (refusal.value.case, _available(policy)) == (case, 10)
    assert asyncio.get_running_loop().time() == 0


@pytest.mark.parametrize("burst", [None, 1], ids=["window", "bucket"])
@pytest.mark.parametrize("cost", [1, lambda call: 1], ids=["plain", "metered"])
async def test_calls_in_line_give_their_units_back_while_the_pool_is_shut(burst: Any, cost: Any):
    """Given a pool that shuts under those who stand in line, then none starts all at once later."""
    pool = _keys(1, cooldown=10)
    policy = Policy().with_timeout(100).with_rate(2, burst=burst, cost=cost).rotating(pool)
    operation = scripted("first", CooldownResource, then="done")

    tasks = _start(*(policy.call(operation) for _ in range(30)))
    await asyncio.sleep(9)
    before = len(operation.calls)
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert before == 2
    assert [type(r) for r in results].count(CooldownResource) == 1
    assert results.count("done") == 28
    assert 10 <= operation.times[2] <= 10.5
    _assert_rate(operation.times, 2)
    # And nothing was lost: two a second, without a gap.
    assert all(later - earlier <= 1 for earlier, later in pairwise(operation.times[2:]))


async def test_calls_in_line_are_told_when_nobody_will_serve_them():
    """Given the last resource disabled, then whose turn comes is refused, its unit back."""
    pool = _keys(1)
    policy = Policy().with_timeout(100).with_rate(1).rotating(pool)
    operation = scripted("first")
    tasks = _start(*(policy.call(operation) for _ in range(3)))
    await asyncio.sleep(0.5)

    pool.disable("a")
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [getattr(result, "case", result) for result in results] == [
        "first",
        "all_disabled",
        "all_disabled",
    ]
    assert asyncio.get_running_loop().time() == 1
    assert _available(policy) == 1


async def test_a_server_s_hint_rests_the_key_and_not_everybody():
    """Given another key, then the rate goes on as before."""
    policy = Policy().with_retry(2, wait=9).with_rate(10).rotating(_keys())
    operation = scripted(CooldownResource(60), then="done")

    assert await policy.call(operation) == "done"
    assert operation.times == [0, 0]


@pytest.mark.parametrize("retries", [True, False])
async def test_a_displaced_attempt_pays_again(retries: bool):
    """Given one start a second, then the victim's second start stands in line for its turn."""
    pool = _keys()
    policy = Policy().with_retry(1) if retries else Policy()
    rotating = policy.with_rate("1/4s").rotating(pool)
    victim = scripted(takes(50, "never"), "moved")

    async with pool.lease() as older:
        (task,) = _start(rotating.call(victim))
        await asyncio.sleep(1)
        older.cooldown(30)
        result = await task

    assert result == "moved"
    assert victim.times == [0, 4]


async def test_displaced_attempts_keep_the_rate_together():
    """Given ten victims of one loss, then they start again at the rate and not at once."""
    pool = _keys()
    policy = Policy().with_rate(5).rotating(pool)
    operation = scripted(*[takes(50, "never")] * 10, then="moved")

    async with pool.lease() as older:
        tasks = _start(*(policy.call(operation) for _ in range(10)))
        await asyncio.sleep(5)
        older.cooldown(30)
        results = await asyncio.gather(*tasks)

    assert results == ["moved"] * 10
    assert operation.times == [*[0.0] * 5, *[1.0] * 5, *[5.0] * 5, *[6.0] * 5]


async def test_the_rate_holds_after_a_slow_probe():
    """Given a probe of five seconds, then whoever waited for it starts at the rate."""
    pool = _keys(1, cooldown=10)
    policy = Policy().with_timeout(100).with_rate(2).rotating(pool)
    await _cool(pool)
    operation = scripted(then=takes(5, "done"))

    await asyncio.gather(*(policy.call(operation) for _ in range(20)))

    _assert_rate(operation.times, 2)


async def test_slots_bound_what_starts_together_after_a_wait():
    """Given a cap, then those who have paid and wait for a slot are never more than it at once."""
    pool = Pool([Resource("A", "a", max_in_flight=3)])
    policy = Policy().with_timeout(100).with_rate(10).rotating(pool)
    operation = scripted(then=takes(2, "done"))

    await asyncio.gather(*(policy.call(operation) for _ in range(12)))

    assert operation.most_in_flight == 3
    assert operation.times == [*[0.0] * 3, *[2.0] * 3, *[4.0] * 3, *[6.0] * 3]


def test_a_cancel_at_any_point_loses_no_start():
    """Cancel sweep: at the gate, in line, in line while the pool shuts; others start on time."""

    async def scenario(sweep: Sweep) -> tuple[Policy, Pool[str]]:
        pool = _keys(1, cooldown=3, probe_on_recovery=False)
        policy = Policy().with_timeout(100).with_rate(1).rotating(pool)
        operation = scripted(then="done")

        async def cools() -> None:
            async with pool.lease() as lease:
                await asyncio.sleep(0.5)
                lease.cooldown()

        async def call() -> None:
            await policy.call(operation)

        sweep.beside(cools(), call())
        sweep.victim(call())
        sweep.beside(call(), call())
        return policy, pool

    async def check(state: tuple[Policy, Pool[str]]) -> None:
        policy, pool = state
        stats = pool.stats()
        assert (stats.in_flight, stats.waiting) == (0, 0)
        assert policy.snapshot()["stages"][1]["waiting"] == 0
        began = asyncio.get_running_loop().time()
        assert began <= 6
        await policy.call(scripted("a start is free within a second"))
        assert asyncio.get_running_loop().time() <= began + 1

    assert cancel_sweep(scenario, check) >= 8
