"""A breaker outside a timeout: slow is a failure, and a cancel gives the probe back."""

from __future__ import annotations

import asyncio

import pytest

from penstock import CallTimeoutError, CircuitOpenError, Policy
from penstock.testing import Sweep, cancel_sweep, scripted, takes

pytestmark = pytest.mark.virtual_time


async def test_timeouts_open_the_circuit():
    """Given two calls that time out, then the third is refused at once."""
    loop = asyncio.get_running_loop()
    policy = Policy().with_breaker(failures=2, recover_after=30).with_timeout(5)

    for _ in range(2):
        with pytest.raises(CallTimeoutError):
            await policy.call(scripted(takes(60)))
    with pytest.raises(CircuitOpenError):
        await policy.call(scripted("never"))

    assert loop.time() == 10


async def test_a_probe_that_hangs_ends_in_time():
    """Given a hanging probe, then the circuit opens again and the next probe is let in."""
    policy = Policy().with_breaker(failures=1, recover_after=30).with_timeout(5)
    operation = scripted(OSError, takes(600), "back")
    with pytest.raises(OSError):  # noqa: PT011 - the bare failure of the script
        await policy.call(operation)

    await asyncio.sleep(30)
    with pytest.raises(CallTimeoutError):
        await policy.call(operation)
    await asyncio.sleep(30)
    result = await policy.call(operation)

    assert result == "back"
    assert operation.times == [0, 30, 65]


async def test_a_caller_that_gives_up_says_nothing_of_the_service():
    """Given a timeout outside, when it cuts a probe, then the probe goes back unjudged."""
    policy = Policy().with_timeout(5).with_breaker(failures=1, recover_after=30)
    operation = scripted(OSError, takes(600), "back")
    with pytest.raises(OSError):  # noqa: PT011 - the bare failure of the script
        await policy.call(operation)
    await asyncio.sleep(30)

    with pytest.raises(CallTimeoutError):
        await policy.call(operation)
    state = policy.snapshot()["stages"][1]
    result = await policy.call(operation)

    assert (state["state"], state["probes_out"]) == ("half_open", 0)
    assert result == "back"
    assert operation.times == [0, 30, 35]


async def test_a_call_refused_by_the_circuit_arms_no_timer():
    """Given an open circuit, then nothing is under watch."""
    policy = Policy().with_breaker(failures=1).with_timeout(5)
    with pytest.raises(CallTimeoutError):
        await policy.call(scripted(takes(60)))

    with pytest.raises(CircuitOpenError):
        await policy.call(scripted("never"))

    assert policy.snapshot()["stages"][1]["running"] == 0


async def test_a_timed_out_call_is_slow_however_short_the_limit():
    """Given a slow-call ratio, then a call that was cut short counts as slow."""
    policy = (
        Policy()
        .with_breaker(failures=99, slow_after=60, slow_ratio=1.0, minimum_calls=2)
        .with_timeout(1)
    )

    for _ in range(2):
        with pytest.raises(CallTimeoutError):
            await policy.call(scripted(takes(9)))

    with pytest.raises(CircuitOpenError):
        await policy.call(scripted("never"))


@pytest.mark.parametrize("outcome", ["succeeds", "fails", "times out"])
def test_a_cancel_at_any_point_gives_the_probe_back(outcome: str):
    """Cancel sweep over a probe; the circuit can always be probed again."""
    script = {"succeeds": takes(2, "ok"), "fails": takes(2, OSError()), "times out": takes(9)}

    async def scenario(sweep: Sweep) -> Policy:
        policy = Policy().with_breaker(failures=1, recover_after=10).with_timeout(5)
        with pytest.raises(ConnectionError):
            await policy.call(scripted(ConnectionError))
        await asyncio.sleep(10)
        sweep.victim(policy.call(scripted(script[outcome])))
        return policy

    async def check(policy: Policy) -> None:
        breaker, timeout = policy.snapshot()["stages"]
        assert breaker["probes_out"] == 0
        assert timeout["running"] == 0
        await asyncio.sleep(10)
        assert await policy.call(scripted("back")) == "back"
        assert policy.snapshot()["stages"][0]["state"] == "closed"

    assert cancel_sweep(scenario, check, raises=(OSError, CallTimeoutError)) > 1


def test_a_cancel_at_any_point_of_a_closed_circuit_counts_nothing():
    """Cancel sweep over the call that would open the circuit: only its failure opens it."""

    async def scenario(sweep: Sweep) -> tuple[Policy, list[str]]:
        policy, ended = Policy().with_breaker(failures=1).with_timeout(5), []

        async def victim() -> None:
            try:
                await policy.call(scripted(takes(9)))
            except BaseException as error:
                ended.append(type(error).__name__)
                raise

        sweep.victim(victim())
        return policy, ended

    def check(state: tuple[Policy, list[str]]) -> None:
        policy, ended = state
        breaker, timeout = policy.snapshot()["stages"]
        assert timeout["running"] == 0
        assert breaker["state"] == ("open" if ended == ["CallTimeoutError"] else "closed")

    assert cancel_sweep(scenario, check, raises=CallTimeoutError) > 1
