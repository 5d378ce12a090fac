"""A concurrency cap over a pool: permits are for calls that a resource can serve."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from penstock import CooldownResource, Policy, Pool, Resource
from penstock.testing import Sweep, cancel_sweep, scripted, takes

pytestmark = pytest.mark.virtual_time


def _keys(count: int = 2, **options: Any) -> Pool[str]:
    return Pool(dict.fromkeys("abcd"[:count], "value"), pick="primary_backup", **options)


def _start(*calls: Awaitable[Any]) -> list[asyncio.Future[Any]]:
    return [asyncio.ensure_future(call) for call in calls]


def _permits(policy: Policy) -> tuple[int, int]:
    (facts,) = (s for s in policy.snapshot()["stages"] if s["stage"] == "concurrency")
    return facts["in_flight"], facts["waiting"]


async def test_no_permit_is_taken_while_every_resource_rests():
    """Given a pool that rests, then another policy under the same cap goes on."""
    pool = _keys(cooldown=30)
    rotating = Policy().with_timeout(100).with_concurrency(1).rotating(pool)
    other = Policy("other").with_stage(rotating.stages[1])
    while pool.health().ready:
        async with pool.lease() as lease:
            lease.cooldown()

    tasks = _start(*(rotating.call(scripted(then="late")) for _ in range(3)))
    await asyncio.sleep(1)
    before = _permits(rotating)
    result = await other.call(scripted("served"))
    at = asyncio.get_running_loop().time()
    await asyncio.gather(*tasks)

    assert (before, result, at) == ((0, 0), "served", 1)
    assert _permits(rotating) == (0, 0)


async def test_a_permit_that_comes_while_every_resource_rests_is_passed_on():
    """Given a call in line when the pool shuts, then another policy has the permit meanwhile."""
    pool = _keys(1, cooldown=30)
    rotating = Policy().with_timeout(100).with_concurrency(1).rotating(pool)
    other = Policy("other").with_stage(rotating.stages[1])
    limited, waiting = scripted(takes(2, CooldownResource())), scripted(then=takes(1, "late"))
    served = scripted(then=takes(1, "served"))

    tasks = _start(rotating.call(limited), rotating.call(waiting))
    await asyncio.sleep(5)
    between = _permits(rotating)
    tasks += _start(other.call(served))
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert between == (0, 0)
    assert results[1:] == ["late", "served"]
    assert (served.times, waiting.times) == ([5], [32])
    assert _permits(rotating) == (0, 0)


@pytest.mark.parametrize("retries", [True, False])
async def test_a_displaced_attempt_gives_its_permit_back_and_asks_again(retries: bool):
    """Given one permit, then whoever stands in line comes before the victim's next attempt."""
    pool = _keys()
    policy = Policy().with_retry(1) if retries else Policy()
    rotating = policy.with_concurrency(1).rotating(pool)
    victim, other = scripted(takes(50, "never"), "moved"), scripted(takes(2, "done"))

    async with pool.lease() as older:
        tasks = _start(rotating.call(victim), rotating.call(other))
        await asyncio.sleep(1)
        older.cooldown(30)
        results = await asyncio.gather(*tasks)

    assert results == ["moved", "done"]
    assert (other.times, victim.times) == ([1], [0, 3])
    assert _permits(rotating) == (0, 0)


async def test_the_caps_of_the_resources_and_of_the_policy_both_hold():
    """Given two slots on each of two keys and three permits, then three run at once."""
    pool = Pool([Resource("A", "a", max_in_flight=2), Resource("B", "b", max_in_flight=2)])
    policy = Policy().with_timeout(100).with_concurrency(3).rotating(pool)
    operation = scripted(then=takes(1, "done"))

    await asyncio.gather(*(policy.call(operation) for _ in range(9)))

    assert operation.most_in_flight == 3
    assert operation.times == [*[0.0] * 3, *[1.0] * 3, *[2.0] * 3]


def test_a_cancel_at_any_point_loses_neither_permit_nor_lease():
    """Cancel sweep: in either line, in a displacement, at the gate."""

    async def scenario(sweep: Sweep) -> tuple[Policy, Pool[str]]:
        pool = Pool([Resource("A", "a", max_in_flight=1)], cooldown=3)
        policy = Policy().with_timeout(100).with_retry(3).with_concurrency(2).rotating(pool)
        limited = scripted(takes(1, CooldownResource()), then=takes(1, "done"))

        async def call() -> None:
            await policy.call(limited)

        sweep.beside(call())
        sweep.victim(call())
        sweep.beside(call(), call())
        return policy, pool

    async def check(state: tuple[Policy, Pool[str]]) -> None:
        policy, pool = state
        assert _permits(policy) == (0, 0)
        assert (pool.stats().in_flight, pool.stats().waiting) == (0, 0)
        assert await policy.call(scripted("served")) == "served"

    assert cancel_sweep(scenario, check) >= 10
