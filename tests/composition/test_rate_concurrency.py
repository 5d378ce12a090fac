"""A rate limit and a concurrency cap: which order promises what, and neither starves the other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock import ConcurrencyLimitedError, Policy
from penstock.testing import Sweep, cancel_sweep, scripted, takes

pytestmark = pytest.mark.virtual_time


def _most_in_one_second(times: list[float]) -> int:
    return max(sum(start <= other < start + 1 for other in times) for start in times)


async def test_with_the_rate_inside_neither_bound_is_ever_exceeded():
    """Given five a second and three at once, then the service never sees more of either."""
    operation = scripted(then=takes(0.5, "done"))
    policy = Policy().with_concurrency(3).with_rate(5)

    await asyncio.gather(*(policy.call(operation) for _ in range(20)))

    assert operation.most_in_flight == 3
    assert _most_in_one_second(operation.times) == 5


async def test_with_the_rate_outside_it_bounds_what_is_let_into_the_line_for_a_permit():
    """Given calls that wait for permits, then starts can bunch; the rate itself still holds."""
    operation, let_in = scripted(then=takes(0.9, "done")), []

    async def look(call: Any, call_next: Any) -> Any:
        let_in.append(asyncio.get_running_loop().time())
        return await call_next(call)

    policy = Policy().with_rate(5).with_stage(look).with_concurrency(3)

    await asyncio.gather(*(policy.call(operation) for _ in range(20)))

    assert operation.most_in_flight == 3
    assert _most_in_one_second(let_in) == 5
    assert _most_in_one_second(operation.times) == 6


async def test_the_rate_comes_first_and_no_permit_is_held_for_it():
    """Given a call that waits for its turn, then a permit lies free for another policy."""
    policy = Policy().with_rate("1/10s").with_concurrency(1)
    other = Policy("other").with_stage(policy.stages[1])
    operation = scripted(then="done")

    await policy.call(operation)
    waiting = asyncio.create_task(policy.call(operation))
    await asyncio.sleep(1)
    await other.call(operation)
    await waiting

    assert operation.times == [0, 1, 10]


async def test_the_other_way_round_a_permit_is_held_while_the_turn_is_waited_for():
    """Given the cap outside, then one call in line for the rate keeps the other out."""
    policy = Policy().with_concurrency(1).with_rate("1/10s")
    other = Policy("other").with_stage(policy.stages[0])
    operation = scripted(then="done")

    await policy.call(operation)
    waiting = asyncio.create_task(policy.call(operation))
    await asyncio.sleep(1)
    await other.call(operation)
    await waiting

    assert operation.times == [0, 10, 10]


async def test_a_call_refused_for_want_of_a_permit_has_its_start_back():
    """Given a full queue, then the call never started and its unit is there for the next."""
    policy = Policy().with_rate("2/min").with_concurrency(1, max_queue=0)
    first = asyncio.create_task(policy.call(scripted(takes(5, "done"))))
    await asyncio.sleep(1)

    with pytest.raises(ConcurrencyLimitedError):
        await policy.call(scripted("never"))
    available = policy.snapshot()["stages"][0]["available"]
    await first

    assert available == [1]


async def test_priority_counts_in_both_lines():
    """Given waiting calls of two priorities, then the higher is served first in each."""
    policy, order = Policy().with_rate(2, burst=1).with_concurrency(1), []

    async def operation(name: str) -> None:
        order.append(name)
        await asyncio.sleep(3)

    calls = [policy.call(operation, "first")]
    calls += [policy.call(operation, f"low-{n}") for n in range(2)]
    calls += [policy.using(priority=1).call(operation, f"high-{n}") for n in range(2)]
    await asyncio.gather(*calls)

    assert order == ["first", "high-0", "high-1", "low-0", "low-1"]


@pytest.mark.parametrize("outside", ["rate", "concurrency"])
def test_a_cancel_at_any_point_loses_neither_start_nor_permit(outside: str):
    """Cancel sweep: in either line, in either grant, in the operation."""

    async def scenario(sweep: Sweep) -> Policy:
        if outside == "rate":
            policy = Policy().with_rate(1).with_concurrency(1)
        else:
            policy = Policy().with_concurrency(2).with_rate(1)
        operation = scripted(then=takes(1.5, "done"))
        sweep.beside(policy.call(operation))
        sweep.victim(policy.call(operation))
        sweep.beside(policy.call(operation), policy.call(operation))
        return policy

    async def check(policy: Policy) -> None:
        stages = {stage["stage"]: stage for stage in policy.snapshot()["stages"]}
        assert stages["rate_limit"]["waiting"] == 0
        assert stages["concurrency"]["waiting"] == 0
        assert stages["concurrency"]["in_flight"] == 0
        await asyncio.sleep(1)
        assert policy.snapshot()["stages"][0 if outside == "rate" else 1]["available"] == [1]
        await policy.using(timeout=0.1).call(scripted("both can be taken"))

    assert cancel_sweep(scenario, check) > 8
