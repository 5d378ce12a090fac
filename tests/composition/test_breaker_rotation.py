"""A breaker over a pool: what is one key's own trips nothing, and no probe is taken in vain."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock import CircuitOpenError, CooldownResource, DisableResource, Policy, Pool
from penstock.testing import Sweep, cancel_sweep, scripted, takes

pytestmark = pytest.mark.virtual_time


def _keys(count: int = 2, **options: Any) -> Pool[str]:
    return Pool(dict.fromkeys("abcd"[:count], "value"), pick="primary_backup", **options)


def _breaker(policy: Policy) -> dict[str, Any]:
    (facts,) = (s for s in policy.snapshot()["stages"] if s["stage"] == "breaker")
    return dict(facts)


async def test_rate_limited_and_refused_keys_do_not_open_the_circuit():
    """Given a breaker that opens at one failure, then four lost keys leave it closed."""
    policy = Policy().with_retry(4, wait=9).with_breaker(failures=1).rotating(_keys(4))
    lost = [CooldownResource(30), DisableResource("revoked")] * 2

    with pytest.raises(DisableResource):
        await policy.call(scripted(*lost))

    assert (_breaker(policy)["state"], _breaker(policy)["failures"]) == ("closed", 0)


async def test_a_failing_service_opens_it_and_rests_no_key():
    """Given connection errors, then the circuit opens and the keys are all still there."""
    pool = _keys()
    policy = Policy().with_breaker(failures=2).rotating(pool)
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            await policy.call(scripted(ConnectionResetError))

    with pytest.raises(CircuitOpenError):
        await policy.call(scripted("never"))

    assert (pool.health().ready, pool.stats().uses) == (2, 2)


async def test_no_probe_is_taken_while_every_key_rests():
    """Given a circuit due for its probe and a pool that rests, then the call waits outside both."""
    pool = _keys(1, cooldown=30)
    policy = Policy().with_timeout(100).with_breaker(failures=1, recover_after=5).rotating(pool)
    with pytest.raises(OSError, match="down"):
        await policy.call(scripted(OSError("down")))
    async with pool.lease() as lease:
        lease.cooldown()
    operation = scripted(then=takes(1, "back"))

    task = asyncio.ensure_future(policy.call(operation))
    await asyncio.sleep(29)
    before = (_breaker(policy)["probes_out"], pool.stats().waiting)
    result = await task

    assert (before, result) == ((0, 1), "back")
    assert operation.times == [30]
    assert _breaker(policy)["state"] == "closed"


@pytest.mark.parametrize("retries", [True, False])
async def test_a_probe_that_is_displaced_goes_back_and_probes_again(retries: bool):
    """Given a half-open circuit, then the loss of a key neither opens nor sticks it."""
    pool = _keys()
    policy = Policy().with_retry(1) if retries else Policy()
    rotating = policy.with_breaker(failures=1, recover_after=5).rotating(pool)
    with pytest.raises(OSError, match="down"):
        await rotating.call(scripted(OSError("down")))
    await asyncio.sleep(5)
    operation = scripted(takes(50, "never"), takes(1, "back"))

    async with pool.lease() as older:
        task = asyncio.ensure_future(rotating.call(operation))
        await asyncio.sleep(1)
        state = (_breaker(rotating)["state"], _breaker(rotating)["probes_out"])
        older.cooldown(30)
        result = await task

    assert (state, result) == (("half_open", 1), "back")
    assert operation.times == [5, 6]
    assert (_breaker(rotating)["state"], _breaker(rotating)["probes_out"]) == ("closed", 0)


def test_a_cancel_at_any_point_gives_both_probes_back():
    """Cancel sweep: the victim probes the circuit and the key that is coming back."""

    async def scenario(sweep: Sweep) -> tuple[Policy, Pool[str]]:
        pool = _keys(1, cooldown=6)
        policy = Policy().with_timeout(100).with_breaker(failures=1, recover_after=5).rotating(pool)
        with pytest.raises(OSError, match="down"):
            await policy.call(scripted(OSError("down")))
        async with pool.lease() as lease:
            lease.cooldown()

        async def call() -> None:
            await policy.call(scripted(takes(1, "back")))

        sweep.victim(call())
        return policy, pool

    async def check(state: tuple[Policy, Pool[str]]) -> None:
        policy, pool = state
        assert _breaker(policy)["probes_out"] == 0
        assert (pool.stats().in_flight, pool.stats().waiting) == (0, 0)
        assert await policy.call(scripted("served")) == "served"
        assert _breaker(policy)["state"] == "closed"

    assert cancel_sweep(scenario, check) >= 5
