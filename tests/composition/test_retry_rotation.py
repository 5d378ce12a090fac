"""Retry over a pool: fail-over takes no pause, and nothing is waited for or tried in vain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from penstock import (
    CallTimeoutError,
    CooldownResource,
    DisableResource,
    NoResourceError,
    Policy,
    Pool,
    RateLimitedError,
    Resource,
    TryAgain,
)
from penstock.events import AttemptStarted, CallEnded, RetryScheduled, RetryStopped
from penstock.testing import EventLog, Sweep, cancel_sweep, scripted, takes

pytestmark = pytest.mark.virtual_time


def _keys(count: int = 2, **options: Any) -> Pool[str]:
    return Pool(dict.fromkeys("abcd"[:count], "value"), pick="primary_backup", **options)


def _ids(operation: Any) -> list[str]:
    return [call.args[0].id for call in operation.calls]


def _start(*calls: Awaitable[Any]) -> list[asyncio.Future[Any]]:
    return [asyncio.ensure_future(call) for call in calls]


def _now() -> float:
    return asyncio.get_running_loop().time()


def _status(code: int, **headers: str) -> Exception:
    error = RuntimeError(f"status {code}")
    error.status_code = code  # type: ignore[attr-defined]
    error.headers = {name.replace("_", "-"): value for name, value in headers.items()}  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    "failure",
    [
        CooldownResource(60),
        DisableResource("revoked"),
        _status(429, retry_after="60"),
        _status(401),
        _status(402),
        _status(407),
    ],
    ids=["cooldown", "disable", "429", "401", "402", "407"],
)
async def test_another_ready_resource_is_tried_at_once(failure: Exception):
    """Given a failure that is one key's own, then neither back-off nor hint is waited for."""
    policy = Policy().with_retry(3, wait=9).rotating(pool := _keys())
    operation = scripted(failure, "done")

    assert await policy.call(operation) == "done"

    assert (_ids(operation), operation.times) == (["a", "b"], [0, 0])
    assert pool.health().ready == 1


async def test_what_is_not_one_resources_own_backs_off():
    """Given a failure of the service, then the next attempt comes after the pause."""
    policy = Policy().with_retry(3, wait=9).rotating(_keys())
    operation = scripted(ConnectionResetError, TryAgain, "done")

    assert await policy.call(operation) == "done"

    assert operation.times == [0, 9, 18]


async def test_with_none_ready_the_earliest_return_is_waited_for():
    """Given two keys that rest, then the attempt is made when the first is back, and on it."""
    log = EventLog()
    policy = Policy(observers=[log]).with_timeout(100).with_retry(5, wait=9).rotating(_keys())
    operation = scripted(CooldownResource(40), CooldownResource(20), "done")

    assert await policy.call(operation) == "done"

    assert (_ids(operation), operation.times) == (["a", "b", "b"], [0, 0, 20])
    assert [event.delay for event in log.of(RetryScheduled)] == [0, 20]


async def test_a_rejection_by_a_policy_further_in_is_waited_for():
    """Given another ready key, then it would be rejected as well: the hint counts."""
    policy = Policy().with_retry(2, wait=1).rotating(pool := _keys())
    operation = scripted(RateLimitedError("inner", retry_after=20), "done")

    assert await policy.call(operation) == "done"

    assert (operation.times, pool.health().ready) == ([0, 20], 2)


async def test_an_earlier_return_is_not_slept_through():
    """Given a key that is added during the wait, then the attempt is made with it at once."""
    pool = _keys(1)
    policy = Policy().with_timeout(100).with_retry(3, wait=9).rotating(pool)
    operation = scripted(CooldownResource(20), "done")
    other = scripted("served")
    tasks = _start(policy.call(operation))
    await asyncio.sleep(5)

    pool.add("value", id="z")
    tasks += _start(policy.call(other))
    await asyncio.gather(*tasks)

    assert (_ids(other), other.times) == (["z"], [5])
    assert operation.times == [0, 5]


async def test_a_deadline_before_the_return_ends_the_call_with_the_real_failure():
    """Given 30 s of rest and 10 s of time, then the caller has the server's own answer now."""
    log = EventLog()
    policy = Policy(observers=[log]).with_timeout(10).with_retry(5, wait=1)
    failure = _status(429, retry_after="30")

    with pytest.raises(RuntimeError) as raised:
        await policy.rotating(_keys(1)).call(scripted(failure))

    assert (raised.value, _now()) == (failure, 0)
    assert log.only(RetryStopped).reason == "the next wait cannot end before the deadline"


async def test_a_return_beyond_max_server_delay_is_not_slept_for():
    """Given no deadline, then two minutes are the most that a call sleeps."""
    policy = Policy().with_retry(5, wait=1).rotating(_keys(1))

    with pytest.raises(CooldownResource) as raised:
        await policy.call(scripted(CooldownResource(500)))

    assert _now() == 0
    assert "no resource is back within max_server_delay" in raised.value.__notes__[0]


async def test_with_all_disabled_it_stops_at_once():
    """Given no resource that can come back, then no attempt and no pause is wasted."""
    policy = Policy().with_retry(9, wait=9).rotating(_keys())
    last = DisableResource("revoked too")

    with pytest.raises(DisableResource) as raised:
        await policy.call(scripted(DisableResource("revoked"), last))

    assert (raised.value, _now()) == (last, 0)
    assert "no resource of the pool will be ready again" in raised.value.__notes__[0]


async def test_a_pool_that_refuses_at_the_first_attempt_is_tried_again_at_the_return():
    """Given no deadline, then rotation refuses at once and retry waits as long as it says."""
    pool = _keys(1, cooldown=30)
    policy = Policy().with_retry(2, wait=0).rotating(pool)
    async with pool.lease() as lease:
        lease.cooldown()
    operation = scripted("done")

    assert await policy.call(operation) == "done"

    assert operation.times == [30]


async def test_a_refusal_after_a_failure_names_that_failure_as_its_cause():
    """Given the only key disabled by somebody during the pause, then the story is told."""
    pool = _keys(1)
    policy = Policy().with_retry(3, wait=5).rotating(pool)
    failure = ConnectionResetError("reset by peer")
    (task,) = _start(policy.call(scripted(failure)))
    await asyncio.sleep(1)

    pool.disable("a")

    with pytest.raises(NoResourceError) as refusal:
        await task
    assert (refusal.value.case, refusal.value.__cause__) == ("all_disabled", failure)


# Displaced attempts


async def test_a_displaced_attempt_spends_neither_attempt_nor_budget():
    """Given one attempt and an empty budget, then the victim of three losses is still served."""
    log = EventLog()
    pool = _keys(4)
    policy = Policy(observers=[log]).with_budget(ratio=0.01, min_per_second=0)
    rotating = policy.with_retry(1, wait=9).rotating(pool)
    victim = scripted(then=takes(10, "done"))

    async def lose_three() -> None:
        for _ in range(3):
            async with pool.lease() as lease:
                await asyncio.sleep(1)
                lease.cooldown(100)

    losses = asyncio.ensure_future(lose_three())
    await asyncio.sleep(0)
    result = await rotating.call(victim)
    await losses

    assert (result, _ids(victim), victim.times) == ("done", ["a", "b", "c", "d"], [0, 1, 2, 3])
    assert log.only(CallEnded).outcome == "success"
    assert [event.attempt for event in log.of(AttemptStarted)] == [1, 2, 3, 4]
    assert rotating.snapshot()["stages"][1]["gave_up"] == 0


async def test_what_follows_a_displacement_has_all_its_attempts():
    """Given two attempts, then a failure after two losses is tried again."""
    pool = _keys(4)
    policy = Policy().with_retry(2, wait=9).rotating(pool)
    victim = scripted(takes(50), takes(50), ConnectionResetError, "done")

    async def lose_two() -> None:
        for _ in range(2):
            async with pool.lease() as lease:
                await asyncio.sleep(1)
                lease.cooldown(100)

    losses = asyncio.ensure_future(lose_two())
    await asyncio.sleep(0)
    result = await policy.call(victim)
    await losses

    assert (result, victim.times) == ("done", [0, 1, 2, 11])


async def test_a_displaced_attempt_with_no_other_resource_waits_for_the_return():
    """Given a single key, then the victim is run again when it is back, after the probe."""
    policy = Policy().with_timeout(100).with_retry(2, wait=9).rotating(_keys(1, cooldown=30))
    culprit = scripted(takes(1, CooldownResource), takes(2, "probe"))
    victim = scripted(takes(50, "never"), takes(1, "moved"))

    results = await asyncio.gather(policy.call(culprit), policy.call(victim))

    assert results == ["probe", "moved"]
    assert sorted([*culprit.times, *victim.times])[2:] in ([31, 32], [31, 33])


async def test_a_displaced_attempt_that_cannot_be_run_again_in_time_is_refused_at_once():
    """Given a return after the deadline, then the caller is told now what the matter is."""
    pool = _keys(1)
    policy = Policy().with_timeout(20).with_retry(3, wait=9).rotating(pool)

    async with pool.lease() as older:
        (task,) = _start(policy.call(scripted(takes(50, "never"))))
        await asyncio.sleep(1)
        older.cooldown(30)
        with pytest.raises(NoResourceError) as refusal:
            await task

    assert (refusal.value.case, _now()) == ("deadline", 1)


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("timer_first", [True, False])
async def test_an_attempt_that_times_out_as_it_is_displaced_has_timed_out(
    attempts: int, timer_first: bool
):
    """Given both in one loop step, then it counts as an attempt, and no cancel is left behind."""
    pool = _keys()
    policy = Policy().with_retry(attempts, wait=1).with_timeout(5).rotating(pool)
    operation = scripted(takes(50, "never"), takes(1, "done"))
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    async with pool.lease() as older:
        if not timer_first:
            loop.call_at(5, older.cooldown, 30)
        call = policy.call(operation)
        if timer_first:
            loop.call_soon(loop.call_at, 5, older.cooldown, 30)
        if attempts == 1:
            with pytest.raises(CallTimeoutError):
                await call
        else:
            assert await call == "done"
        await asyncio.sleep(0)

    assert task.cancelling() == 0
    assert operation.times == ([0] if attempts == 1 else [0, 6])
    stats = pool.stats()
    assert (stats.failures, stats.displaced, stats.in_flight) == (1, 0, 0)


async def test_the_lease_is_given_back_before_the_pause():
    """Given one slot, then another call runs on it during the back-off."""
    pool = Pool([Resource("A", "a", max_in_flight=1)])
    policy = Policy().with_timeout(100).with_retry(2, wait=5).rotating(pool)
    failing, other = scripted(takes(1, OSError()), "late"), scripted(takes(2, "done"))

    await asyncio.gather(policy.call(failing), policy.call(other))

    assert other.times == [1]
    assert failing.times == [0, 6]


async def test_a_burst_of_failures_is_one_incident():
    """Given five calls that meet the limit together, then it is one step of the table."""
    pool = _keys(cooldown=(30, 120, 300))
    policy = Policy().with_retry(2, wait=9).rotating(pool)
    operation = scripted(*[takes(1, CooldownResource())] * 5, then="done")

    results = await asyncio.gather(*(policy.call(operation) for _ in range(5)))

    assert results == ["done"] * 5
    shown = pool.snapshot()["resources"]["a"]
    assert (shown["level"], shown["cooling_for"]) == (1, 30)
    assert set(operation.times) == {0, 1}


async def test_a_stream_fails_over_until_its_first_item():
    """Given a refusal before it and one after it, then the first is retried and both are told."""
    pool = _keys(3)
    policy = Policy().with_retry(5, wait=9).rotating(pool)
    opened: list[str] = []

    async def lines(key: Resource[str]) -> AsyncIterator[str]:
        opened.append(str(key.id))
        if key.id == "a":
            raise DisableResource("revoked")
        yield "first"
        raise CooldownResource(30)

    async def read() -> None:
        async with policy.stream(lines) as items:
            async for _ in items:
                pass

    with pytest.raises(CooldownResource):
        await read()

    assert (opened, _now()) == (["a", "b"], 0)
    standings = [facts["standing"] for facts in pool.snapshot()["resources"].values()]
    assert standings == ["disabled", "cooling", "ready"]


@pytest.mark.parametrize("keys", [1, 2])
def test_a_cancel_at_any_point_leaves_everything_in_order(keys: int):
    """Cancel sweep: in an attempt, in a displacement, in the wait for the return, in a probe."""

    async def scenario(sweep: Sweep) -> Pool[str]:
        pool = _keys(keys, cooldown=3)
        policy = Policy().with_timeout(100).with_retry(4, wait=1).rotating(pool)
        culprit = scripted(takes(1, CooldownResource()), then=takes(1, "done"))
        operation = scripted(then=takes(2, "done"))

        async def call(fn: Any) -> None:
            task = asyncio.current_task()
            assert task is not None
            assert await policy.call(fn) == "done"
            assert task.cancelling() == 0

        sweep.beside(call(culprit))
        sweep.victim(call(operation))
        sweep.beside(call(operation))
        return pool

    async def check(pool: Pool[str]) -> None:
        stats = pool.stats()
        assert (stats.in_flight, stats.waiting) == (0, 0)
        ended = stats.successes + stats.failures + stats.cancelled + stats.displaced
        assert stats.uses == ended
        policy = Policy().with_timeout(100).rotating(pool)
        assert await policy.call(scripted("served")) == "served"

    assert cancel_sweep(scenario, check) >= 10
