"""Timeouts over a pool: the call's deadline holds through every displacement."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock import CallTimeoutError, NoResourceError, Policy, Pool
from penstock.testing import Sweep, cancel_sweep, scripted, takes

pytestmark = pytest.mark.virtual_time


def _keys(count: int = 2, **options: Any) -> Pool[str]:
    return Pool(dict.fromkeys("abcd"[:count], "value"), pick="primary_backup", **options)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _cancel_requests() -> int:
    """Return how many are left, after one that might still be on its way."""
    await asyncio.sleep(0)
    task = asyncio.current_task()
    return -1 if task is None else task.cancelling()


@pytest.mark.parametrize("how", ["stage", "using"])
async def test_a_displaced_call_keeps_its_deadline(how: str):
    """Given five seconds in all, then the second attempt has what the first has left."""
    pool = _keys()
    policy = Policy().with_timeout(5) if how == "stage" else Policy()
    rotating = policy.rotating(pool)
    caller = rotating if how == "stage" else rotating.using(timeout=5)
    victim = scripted(then=takes(50, "never"))

    async with pool.lease() as older:
        asyncio.get_running_loop().call_later(3, older.cooldown, 30)
        with pytest.raises(CallTimeoutError):
            await caller.call(victim)

    assert (victim.times, _now()) == ([0, 3], 5)
    assert await _cancel_requests() == 0


async def test_a_displaced_call_waits_for_a_return_within_its_deadline():
    """Given the only key lost for four seconds of ten, then it is run again on it."""
    pool = _keys(1)
    policy = Policy().with_timeout(10).rotating(pool)
    victim = scripted(takes(50, "never"), takes(2, "moved"))

    async with pool.lease() as older:
        asyncio.get_running_loop().call_later(3, older.cooldown, 4)
        result = await policy.call(victim)

    assert (result, victim.times) == ("moved", [0, 7])


async def test_a_displaced_call_that_nobody_can_serve_in_time_ends_at_once():
    """Given the only key lost for longer than is left, then nobody waits for the deadline."""
    pool = _keys(1)
    policy = Policy().with_timeout(10).rotating(pool)

    async with pool.lease() as older:
        asyncio.get_running_loop().call_later(3, older.cooldown, 30)
        with pytest.raises(NoResourceError) as refusal:
            await policy.call(scripted(takes(50, "never")))

    assert (refusal.value.case, _now()) == ("deadline", 3)


@pytest.mark.parametrize("loss_first", [True, False])
async def test_a_call_that_times_out_as_it_is_displaced_has_timed_out(loss_first: bool):
    """Given both in one loop step, in either order, then no further attempt begins."""
    pool = _keys()
    policy = Policy().with_timeout(5).rotating(pool)
    victim = scripted(takes(50, "never"))
    loop = asyncio.get_running_loop()

    async with pool.lease() as older:
        if loss_first:
            loop.call_at(5, older.cooldown, 30)
        else:
            loop.call_soon(loop.call_at, 5, older.cooldown, 30)
        with pytest.raises(CallTimeoutError):
            await policy.call(victim)

    assert await _cancel_requests() == 0
    assert (len(victim.calls), pool.stats().in_flight) == (1, 0)


async def test_a_wait_that_ends_at_the_deadline_is_a_refusal():
    """Given a slot that comes free too late, then nothing was begun that could have timed out."""
    pool = Pool({"a": "A"})
    pool.resize("a", 1)
    policy = Policy().with_timeout(5).rotating(pool)

    async with pool.lease():
        with pytest.raises(NoResourceError) as refusal:
            await policy.call(scripted("never"))

    assert (refusal.value.case, pool.stats().waiting) == ("deadline", 0)
    # The pool speaks a moment before the timeout would.
    assert 4.99 <= _now() <= 5
    assert await _cancel_requests() == 0


def test_a_cancel_at_any_point_of_a_loss_in_the_step_of_the_timeout_ends_the_caller():
    """Cancel sweep: three cancels meet in one step, and the foreign one wins."""

    async def scenario(sweep: Sweep) -> Pool[str]:
        pool = _keys()
        policy = Policy().with_timeout(2).rotating(pool)

        async def lose() -> None:
            async with pool.lease() as older:
                await asyncio.sleep(2)
                older.cooldown(30)

        async def call() -> None:
            try:
                await policy.call(scripted(then=takes(50)))
            finally:
                task = asyncio.current_task()
                assert task is not None
                assert task.cancelling() == (1 if sweep.step else 0)

        sweep.beside(lose())
        sweep.victim(call())
        return pool

    def check(pool: Pool[str]) -> None:
        stats = pool.stats()
        assert (stats.in_flight, stats.waiting, stats.displaced) == (0, 0, 0)

    assert cancel_sweep(scenario, check, raises=CallTimeoutError) >= 4
