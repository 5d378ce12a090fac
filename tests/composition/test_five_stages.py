"""Five stages in the usual order: retry, rate, breaker, concurrency, timeout."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from penstock import CallTimeoutError, CircuitOpenError, CooldownResource, Policy
from penstock.events import AttemptStarted, CallEnded, RetryScheduled, WaitEnded
from penstock.testing import EventLog, Sweep, cancel_sweep, scripted, takes

pytestmark = pytest.mark.virtual_time


def _five(**settings: Any) -> Policy:
    return (
        Policy("five", **settings)
        .with_retry(4, wait=1)
        .with_rate(2)
        .with_breaker(failures=3, recover_after=10)
        .with_concurrency(1)
        .with_timeout(3)
    )


def _stages(policy: Policy) -> dict[str, dict[str, Any]]:
    return {stage["stage"]: stage for stage in policy.snapshot()["stages"]}


def _inside(outer: Policy, inner: Policy) -> Policy:
    """Return a policy of both: the inner one's stages, shared, inside the outer one's."""
    for stage in inner.stages:
        outer = outer.with_stage(stage)
    return outer


def _assert_balanced(policy: Policy) -> None:
    stages = _stages(policy)
    assert stages["rate_limit"]["waiting"] == 0
    assert stages["breaker"]["probes_out"] == 0
    assert stages["concurrency"]["in_flight"] == 0
    assert stages["concurrency"]["waiting"] == 0
    assert stages["timeout"]["running"] == 0


async def test_a_good_call_takes_no_time():
    """Given nothing in the way, then the call goes straight through all five."""
    policy = _five()

    result = await policy.call(scripted("done"), "query")

    assert result == "done"
    assert asyncio.get_running_loop().time() == 0
    _assert_balanced(policy)


async def test_an_attempt_that_hangs_is_cut_and_tried_again():
    """Given a hanging attempt, then its permit is there for the next."""
    operation = scripted(takes(60), "done")
    policy = _five()

    assert await policy.call(operation) == "done"
    assert operation.times == [0, 4]
    _assert_balanced(policy)


async def test_a_servers_hint_holds_the_next_attempt_and_everybody_else():
    """Given a 429 with a hint, then nobody starts before it has passed."""
    policy, operation = _five(), scripted(CooldownResource(7), then="done")

    first = asyncio.create_task(policy.call(operation))
    await asyncio.sleep(1)
    await asyncio.gather(first, policy.call(operation))

    assert operation.times == [0, 7, 7]


async def test_an_outage_opens_the_circuit_and_one_probe_ends_it():
    """Given a service that is down, then retries wait for the probe and all calls succeed."""
    loop = asyncio.get_running_loop()
    policy = _five()

    async def service() -> str:
        if loop.time() < 9:
            raise ConnectionResetError
        return "back"

    results = await asyncio.gather(*(policy.call(service) for _ in range(3)))

    assert results == ["back"] * 3
    assert _stages(policy)["breaker"]["state"] == "closed"
    _assert_balanced(policy)


async def test_what_happened_is_told_in_order():
    """Given a failure and a retry, then the events tell the story of the call."""
    log = EventLog()

    await _five(observers=[log]).call(scripted(takes(1, ConnectionResetError()), takes(1, "ok")))

    assert log.names() == [
        "CallStarted",
        "AttemptStarted",
        "AttemptEnded",
        "RetryScheduled",
        "WaitEnded",
        "AttemptStarted",
        "AttemptEnded",
        "CallEnded",
    ]
    assert [event.attempt for event in log.of(AttemptStarted)] == [1, 2]
    assert log.only(RetryScheduled).delay == 1
    assert (log.only(WaitEnded).stage, log.only(WaitEnded).seconds) == ("backoff", 1)
    assert (log.only(CallEnded).outcome, log.only(CallEnded).duration) == ("success", 3)


async def test_calls_are_served_in_the_order_in_which_they_came():
    """Given one permit and many callers, then nobody overtakes, but by priority."""
    policy, order = _five(), []

    async def operation(name: str) -> None:
        order.append(name)
        await asyncio.sleep(0.2)

    calls = [policy.call(operation, f"low-{n}") for n in range(4)]
    calls += [policy.using(priority=1).call(operation, f"high-{n}") for n in range(4)]
    await asyncio.gather(*calls)

    # The first two had their starts before anybody of a higher priority came.
    assert order == ["low-0", "low-1", *(f"high-{n}" for n in range(4)), "low-2", "low-3"]


async def test_a_successful_call_leaves_no_reference_cycle():
    """Nothing is left to the garbage collector, with or without arguments."""
    policy, operation = _five(), scripted(then="done")
    await policy.call(operation)
    gc.collect()

    for _ in range(20):
        await policy.call(operation, "query", limit=3)

    assert gc.collect() == 0


async def test_a_call_that_succeeds_at_last_leaves_no_reference_cycle():
    """The failures before are let go of, with all the frames they hold."""
    policy, operation = _five(), scripted(then="done")
    await policy.call(operation)
    gc.collect()

    for _ in range(5):
        await policy.call(scripted(ConnectionRefusedError, takes(9), "done"))

    assert gc.collect() == 0


# What the victim's attempts do; its contenders always succeed.
_STORIES = {
    "succeeds": [takes(1, "done")],
    "retries": [takes(1, ConnectionResetError()), takes(1, ConnectionRefusedError()), "done"],
    "times out": [takes(60), takes(1, "done")],
    "is told to wait": [takes(1, CooldownResource(2)), takes(1, "done")],
    "opens the circuit": [ConnectionResetError()] * 3 + [takes(1, "done")],
    "is the caller's bug": [takes(1, ValueError())],
}


@pytest.mark.parametrize("story", _STORIES)
def test_a_cancel_at_any_point_balances_all_books(story: str):
    """Cancel sweep: two contenders before, two behind, and one who must be served afterwards."""

    async def scenario(sweep: Sweep) -> Policy:
        policy = _inside(Policy().with_budget(), _five())
        others = scripted(then=takes(0.3, "served"))
        sweep.beside(policy.call(others))
        sweep.victim(policy.call(scripted(*_STORIES[story])))
        sweep.beside(policy.call(others), policy.using(priority=1).call(others))
        return policy

    async def check(policy: Policy) -> None:
        _assert_balanced(policy)
        stages = _stages(policy)
        assert 0 <= stages["budget"]["spent"] <= stages["retry"]["retries"]
        await asyncio.sleep(12)
        assert await policy.using(timeout=0.5).call(scripted("all is free")) == "all is free"
        _assert_balanced(policy)

    assert cancel_sweep(scenario, check, raises=ValueError) > 5


@pytest.mark.parametrize("ending", ["succeeds", "fails"])
def test_a_cancel_at_any_point_of_a_probe_lets_the_next_one_in(ending: str):
    """Cancel sweep over a half-open circuit with a retrying contender."""

    async def scenario(sweep: Sweep) -> Policy:
        policy = _five()
        with pytest.raises(CircuitOpenError):
            await policy.using(timeout=5).call(scripted(then=ConnectionResetError))
        await asyncio.sleep(12)
        probe = takes(1, "ok") if ending == "succeeds" else takes(1, ConnectionResetError())
        sweep.victim(policy.call(scripted(probe, then=takes(1, "ok"))))
        contender = _inside(Policy().with_fallback(value=None), policy)
        sweep.beside(contender.call(scripted(then=takes(1, "ok"))))
        return policy

    async def check(policy: Policy) -> None:
        _assert_balanced(policy)
        await asyncio.sleep(12)
        assert await policy.call(scripted("served")) == "served"
        assert _stages(policy)["breaker"]["state"] == "closed"

    cancel_sweep(scenario, check, raises=CallTimeoutError)
