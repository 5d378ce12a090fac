"""Retry outside a concurrency cap: a permit is held by an attempt, never by a back-off."""

from __future__ import annotations

import asyncio

import pytest

from penstock import ConcurrencyLimitedError, Policy
from penstock.order import Level, findings
from penstock.testing import Sweep, cancel_sweep, scripted, takes

pytestmark = pytest.mark.virtual_time


async def test_the_permit_is_given_back_before_the_back_off():
    """Given one permit, when an attempt has failed, then another call runs during its pause."""
    policy = Policy().with_retry(2, wait=5).with_concurrency(1)
    failing, other = scripted(takes(1, OSError()), takes(1, "late")), scripted(takes(2, "done"))

    await asyncio.gather(policy.call(failing), policy.call(other))

    assert other.times == [1]
    assert failing.times == [0, 6]


async def test_a_retry_stands_in_line_again():
    """Given calls that wait, then the second attempt comes after them."""
    policy = Policy().with_retry(2, wait=0).with_concurrency(1)
    failing, others = scripted(takes(1, OSError()), "late"), scripted(then=takes(1, "done"))

    await asyncio.gather(policy.call(failing), *(policy.call(others) for _ in range(3)))

    assert others.times == [1, 2, 3]
    assert failing.times == [0, 4]


async def test_a_full_queue_is_tried_again_later():
    """Given no room in the queue, then retry backs off and finds some."""
    policy = Policy().with_retry(2, wait=3).with_concurrency(1, max_queue=0)
    operation = scripted(then=takes(2, "done"))

    results = await asyncio.gather(policy.call(operation), policy.call(operation))

    assert results == ["done", "done"]
    assert operation.times == [0, 3]


async def test_without_a_second_attempt_the_refusal_reaches_the_caller():
    """Given a single attempt, then the operation is never started for the second call."""
    policy = Policy().with_retry(1).with_concurrency(1, max_queue=0)
    operation = scripted(takes(2, "done"))
    first = asyncio.create_task(policy.call(operation))
    await asyncio.sleep(1)

    with pytest.raises(ConcurrencyLimitedError):
        await policy.call(operation)

    assert await first == "done"


async def test_never_more_attempts_than_permits_are_under_way():
    """Given ten calls that fail twice each, then two permits are two permits."""
    policy = Policy().with_retry(3, wait=0.3).with_concurrency(2)
    operation = scripted(*[takes(1, OSError())] * 20, then=takes(1, "done"))

    results = await asyncio.gather(*(policy.call(operation) for _ in range(10)))

    assert results == ["done"] * 10
    assert operation.most_in_flight == 2
    assert policy.snapshot()["stages"][1]["in_flight"] == 0


async def test_the_other_way_round_a_back_off_keeps_the_permit():
    """Given the cap outside, then the other call waits for the whole retry; it is worth a note."""
    policy = Policy().with_concurrency(1).with_retry(2, wait=5)
    failing, other = scripted(OSError, "late"), scripted("done")

    await asyncio.gather(policy.call(failing), policy.call(other))

    assert other.times == [5]
    assert [(f.level, f.rule) for f in findings(policy.stages)] == [
        (Level.NOTE, "concurrency-outside-retry")
    ]


@pytest.mark.parametrize("max_wait", [None, 1.5])
def test_a_cancel_at_any_point_loses_no_permit(max_wait: float | None):
    """Cancel sweep: in line, in the grant, in an attempt, in back-off; all others are served."""

    async def scenario(sweep: Sweep) -> Policy:
        policy = Policy().with_retry(4, wait=1).with_concurrency(1, max_wait=max_wait)
        operation = scripted(takes(1, OSError()), takes(1, OSError()), then=takes(1, "done"))
        sweep.beside(policy.call(operation))
        sweep.victim(policy.call(operation))
        sweep.beside(policy.call(operation))
        return policy

    async def check(policy: Policy) -> None:
        stage = policy.snapshot()["stages"][1]
        assert (stage["in_flight"], stage["waiting"]) == (0, 0)
        await policy.using(timeout=0.5).call(scripted("the permit can be taken"))

    assert cancel_sweep(scenario, check) > 10
