"""Retry outside a rate limit: each attempt pays, and nobody holds a start while it sleeps."""

from __future__ import annotations

import asyncio

import pytest

from penstock import (
    CallTimeoutError,
    CooldownResource,
    Policy,
    PolicyOrderWarning,
    RateLimitedError,
)
from penstock.testing import Sweep, cancel_sweep, scripted, takes

pytestmark = pytest.mark.virtual_time


async def test_each_attempt_pays_the_rate():
    """Given one start a second, when two attempts fail, then the third starts in the third."""
    operation = scripted(ConnectionResetError, ConnectionResetError, "done")

    result = await Policy().with_retry(3, wait=0).with_rate(1).call(operation)

    assert result == "done"
    assert operation.times == [0, 1, 2]


async def test_back_off_and_the_turn_in_line_pass_at_the_same_time():
    """Given a back-off of a second, then the attempt waits only for what is left of its turn."""
    operation = scripted(ConnectionResetError, "done")
    policy = Policy().with_retry(2, wait=1).with_rate("1/4s")

    await policy.call(operation)

    assert operation.times == [0, 4]


async def test_a_call_that_backs_off_stands_behind_those_who_came_meanwhile():
    """Given a retry in its back-off, then it keeps no place in line."""
    policy = Policy().with_retry(2, wait=5).with_rate(1)
    failing, others = scripted(ConnectionResetError, "late"), scripted(then="done")

    first = asyncio.create_task(policy.call(failing))
    await asyncio.sleep(4.5)
    await asyncio.gather(*(policy.call(others) for _ in range(3)), first)

    assert others.times == [4.5, 5.5, 6.5]
    assert failing.times == [0, 7.5]


async def test_a_start_that_never_reached_the_server_is_free_for_the_next_attempt():
    """Given a refused connection, then the retry needs no second start."""
    operation = scripted(ConnectionRefusedError, "done")

    await Policy().with_retry(2, wait=0).with_rate("1/min").call(operation)

    assert operation.times == [0, 0]


async def test_a_rejection_by_the_rate_is_waited_for_and_tried_again():
    """Given ``max_wait``, then retry waits for as long as the rejection says."""
    operation = scripted(then="done")
    policy = Policy().with_retry(2, wait=0).with_rate("1/10s", max_wait=1)

    await asyncio.gather(policy.call(operation), policy.call(operation))

    assert operation.times == [0, 10]


async def test_a_rejection_after_a_failure_names_that_failure_as_its_cause():
    """Given a failed first attempt, then a rejected second one does not hide it."""
    failure = ConnectionResetError("reset by peer")
    policy = Policy().with_retry(2, wait=0).with_rate("1/min", max_wait=1)

    with pytest.raises(RateLimitedError) as caught:
        await policy.call(scripted(failure))

    assert caught.value.__cause__ is failure


async def test_a_servers_hint_is_waited_for_once_by_both():
    """Given a 429 with a hint, then rate limit and retry wait side by side, not in turn."""
    operation = scripted(CooldownResource(30), "done")

    await Policy().with_retry(2, wait=0).with_rate(10).call(operation)

    assert operation.times == [0, 30]


async def test_a_turn_that_cannot_come_before_the_deadline_is_not_waited_for():
    """Given a total timeout, then the caller gets its answer now and not at the deadline."""
    loop = asyncio.get_running_loop()
    policy = Policy().with_timeout(5).with_retry(3, wait=0).with_rate("1/min")
    await policy.call(scripted("the only start"))

    with pytest.raises(RateLimitedError):
        await policy.call(scripted("never"))

    assert loop.time() == 0


async def test_an_attempt_that_times_out_in_line_leaves_it():
    """Given a timeout inside retry, then the turn of an attempt that was cut goes to the next."""
    policy = Policy().with_retry(2, wait=0).with_timeout(3).with_rate(1)
    slow, others = scripted(takes(9), takes(1, "done")), scripted(then="done")

    first = asyncio.create_task(policy.call(slow))
    await asyncio.sleep(2.5)
    await asyncio.gather(*(policy.call(others) for _ in range(2)), first)

    assert sorted([*slow.times, *others.times]) == [0, 2.5, 3.5, 4.5]
    with pytest.raises(CallTimeoutError):
        await policy.call(scripted(then=takes(9)))


async def test_the_other_way_round_retries_are_free():
    """Given the rate outside, then it sees one start per call; the order is warned about."""
    operation = scripted(ConnectionResetError, "done")
    policy = Policy().with_rate("1/min").with_retry(2, wait=0)

    with pytest.warns(PolicyOrderWarning, match="retries do not pay it"):
        await policy.call(operation)

    assert operation.times == [0, 0]


@pytest.mark.parametrize("burst", [None, 1], ids=["window", "bucket"])
def test_a_cancel_at_any_point_loses_no_start(burst: int | None):
    """Cancel sweep: in line, in the grant, in an attempt, in back-off; others start on time."""

    async def scenario(sweep: Sweep) -> tuple[Policy, list[float]]:
        policy = Policy().with_retry(2, wait=0.5).with_rate(1, burst=burst)
        starts: list[float] = []

        def start(fails: int) -> object:
            starts.append(asyncio.get_running_loop().time())
            if len(starts) == fails:
                raise ConnectionResetError
            return "done"

        operation = scripted(then=start)
        sweep.beside(policy.call(operation, 0))
        sweep.victim(policy.call(operation, 2))
        sweep.beside(policy.call(operation, 0), policy.call(operation, 0))
        return policy, starts

    async def check(state: tuple[Policy, list[float]]) -> None:
        policy, starts = state
        await policy.call(scripted(lambda: starts.append(asyncio.get_running_loop().time())))

        (_, rate) = policy.snapshot()["stages"]
        assert rate["waiting"] == 0
        # One start a second, and none is left out: nobody waits for a start nobody made.
        assert starts == pytest.approx(range(len(starts)))
        assert len(starts) in (4, 5, 6)

    assert cancel_sweep(scenario, check) > 5
