from __future__ import annotations

import pytest

from penstock import CooldownResource, NoResourceError, Policy, Pool, Resource, TryAgain
from penstock.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallRejected,
    CallStarted,
    ResourceChanged,
    RetryScheduled,
    WaitEnded,
)
from penstock.testing import EventLog, scripted, takes

pytestmark = pytest.mark.virtual_time


async def limited(key: Resource[int]) -> str:
    """Be rate limited on the first resource."""
    if key.id == "a":
        raise CooldownResource(5)
    return "done"


async def test_a_pools_own_calls_tell_their_story():
    """As those of a policy do: which resource served which attempt, and what became of it."""
    log = EventLog()
    pool = Pool({"a": 1, "b": 2}, observers=[log], name="keys")

    await pool.using(request_id="r1").run(limited)

    assert log.only(CallStarted).policy == "keys"
    assert [event.resource for event in log.of(AttemptStarted)] == ["a", "b"]
    assert [event.verdict.value for event in log.of(AttemptEnded)] == ["rate_limited", "ok"]
    assert log.only(ResourceChanged).new == "cooling"
    ended = log.only(CallEnded)
    assert (ended.outcome, ended.attempts, ended.request_id) == ("success", 2, "r1")


async def test_the_pause_before_another_attempt_is_told():
    """What the attempts took and what was waited for add up to the whole call."""
    log = EventLog()
    pool = Pool({"a": 1}, observers=[log], retry_delay=2)
    operation = scripted(takes(1, TryAgain()), takes(1, TryAgain(after=3)), then=takes(1, "done"))

    assert await pool.run(operation) == "done"

    delays = [event.delay for event in log.of(RetryScheduled)]
    waits = [event.seconds for event in log.of(WaitEnded, stage="backoff")]
    attempts = [event.duration for event in log.of(AttemptEnded)]
    assert delays == pytest.approx(waits)
    assert 1 <= delays[0] <= 3
    assert delays[1] == 3
    assert sum(waits) + sum(attempts) == pytest.approx(log.only(CallEnded).duration)


async def test_a_pool_that_is_exhausted_says_so_to_observers():
    """The call was rejected once its last resource had failed."""
    log = EventLog()
    pool = Pool({"a": 1}, observers=[log])

    with pytest.raises(NoResourceError):
        await pool.run(limited)

    assert log.only(CallRejected).stage == "rotation"
    assert log.only(CallEnded).outcome == "rejected"


async def test_views_that_differ_in_what_calls_bring_share_their_stages():
    """One per request costs no pipeline."""
    pool = Pool({"a": 1, "b": 2})

    view, other = pool.using(key="x"), pool.using(attempts=1)

    assert view.parts() == pool.using(priority=3).parts()
    assert view.parts() != other.parts()


async def test_policies_of_one_name_tell_their_observers_once():
    """Also where a policy is made per request over one pool."""
    log = EventLog()
    pool = Pool({"a": 1, "b": 2})

    for _ in range(3):
        await Policy("search", observers=[log]).with_retry(2).rotating(pool).call(limited)

    assert [event.new for event in log.of(ResourceChanged)] == ["cooling"]
