"""Retry outside a breaker: every attempt is counted, and an open circuit is waited for."""

from __future__ import annotations

import asyncio

import pytest

from penstock import CallTimeoutError, CircuitOpenError, CooldownResource, Policy
from penstock.testing import Sweep, cancel_sweep, scripted, takes

pytestmark = pytest.mark.virtual_time


async def test_the_breaker_sees_every_attempt():
    """Given three failures, then one call with three attempts opens the circuit."""
    policy = Policy().with_retry(3, wait=0).with_breaker(failures=3)

    with pytest.raises(ConnectionError):
        await policy.call(scripted(then=ConnectionError))

    assert policy.snapshot()["stages"][1]["state"] == "open"


async def test_outside_retry_the_breaker_sees_one_failure_per_call():
    """Given the breaker outside, then three attempts are one failure."""
    policy = Policy().with_breaker(failures=3).with_retry(3, wait=0)

    with pytest.raises(ConnectionError):
        await policy.call(scripted(then=ConnectionError))

    assert policy.snapshot()["stages"][0]["failures"] == 1


async def test_an_open_circuit_is_waited_for_as_long_as_it_says():
    """Given an open circuit, then the next attempt is the probe, and not earlier."""
    policy = Policy().with_retry(2, wait=1).with_breaker(failures=1, recover_after=30)
    operation = scripted(ConnectionError, "back")
    with pytest.raises(CircuitOpenError):
        await policy.call(operation)

    result = await policy.call(operation)

    assert result == "back"
    assert operation.times == [0, 30]


async def test_an_open_circuit_that_cannot_close_in_time_ends_the_call_now():
    """Given a deadline before the probe, then nobody sleeps towards it in vain."""
    loop = asyncio.get_running_loop()
    policy = Policy().with_timeout(10).with_retry(5, wait=1).with_breaker(failures=2)

    with pytest.raises(CircuitOpenError) as caught:
        await policy.call(scripted(then=ConnectionError("down")))

    # Two failures, a second apart, and the refusal after another back-off.
    assert loop.time() == 2
    # What opened it is not lost.
    assert isinstance(caught.value.__cause__, ConnectionError)


async def test_a_rejection_is_no_failure_of_the_service():
    """Given retries against an open circuit, then they do not prolong its open time."""
    policy = (
        Policy()
        .with_retry(4, wait=1, max_server_delay=0)
        .with_breaker(failures=1, recover_after=30)
    )
    for _ in range(3):
        with pytest.raises((ConnectionError, CircuitOpenError)):
            await policy.call(scripted(then=ConnectionError))

    left = policy.snapshot()["stages"][1]["retry_after"]

    assert left == 30 - asyncio.get_running_loop().time()


async def test_a_rate_limit_of_the_server_leaves_the_circuit_closed():
    """Given 429s, then retry waits and the breaker stays neutral."""
    policy = Policy().with_retry(4, wait=0).with_breaker(failures=1)

    assert await policy.call(scripted(*[CooldownResource(5)] * 3, "done")) == "done"
    assert policy.snapshot()["stages"][1]["state"] == "closed"


async def test_one_probe_is_let_in_however_many_retry():
    """Given ten retrying calls and one probe, then the service is asked once while half-open."""
    policy = Policy().with_retry(9, wait=0.1).with_breaker(failures=1, recover_after=30)
    operation = scripted(ConnectionError, takes(5, "probe"), then="done")
    with pytest.raises(CircuitOpenError):
        await policy.using(timeout=1).call(operation)

    await asyncio.sleep(30)
    calls = [asyncio.create_task(policy.call(operation)) for _ in range(10)]
    await asyncio.sleep(0.5)
    asked = len(operation.calls)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert asked == 2
    assert outcomes[0] == "probe"
    assert all(isinstance(outcome, str | CircuitOpenError) for outcome in outcomes)


def test_a_cancel_at_any_point_keeps_the_circuit_probable():
    """Cancel sweep over the attempt that opens, the wait, the probe."""

    async def scenario(sweep: Sweep) -> Policy:
        policy = Policy().with_retry(3, wait=0).with_breaker(failures=1, recover_after=10)
        sweep.victim(policy.call(scripted(takes(1, OSError()), takes(1, "back"))))
        return policy

    async def check(policy: Policy) -> None:
        breaker = policy.snapshot()["stages"][1]
        assert breaker["probes_out"] == 0
        await asyncio.sleep(10)
        assert await policy.call(scripted("served")) == "served"

    assert cancel_sweep(scenario, check) > 3


async def test_a_timeout_over_both_is_neutral():
    """Given a total timeout, when it cuts an attempt, then the circuit does not count it."""
    policy = Policy().with_timeout(5).with_retry(3, wait=0).with_breaker(failures=1)

    with pytest.raises(CallTimeoutError):
        await policy.call(scripted(takes(60)))

    breaker = policy.snapshot()["stages"][2]
    assert (breaker["failures"], breaker["state"]) == (0, "closed")
