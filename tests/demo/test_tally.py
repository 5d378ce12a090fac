from __future__ import annotations

import pytest

from penstock import Policy, VerdictKind
from penstock.demo.tally import Tally, Wait
from penstock.testing import scripted, takes

pytestmark = pytest.mark.virtual_time


class BusyError(Exception):
    """Stands in for an answer with a status."""

    status_code = 503


async def test_attempts_are_counted_by_verdict() -> None:
    """Each attempt counts once, under what its end meant."""
    tally = Tally()
    policy = Policy("t", observers=[tally]).with_retry(attempts=3, wait=1)

    await policy.call(scripted(BusyError(), ConnectionResetError(), "good"))

    assert tally.attempts == {
        VerdictKind.OVERLOADED: 1,
        VerdictKind.TRANSIENT: 1,
        VerdictKind.OK: 1,
    }
    assert list(tally.recent) == [VerdictKind.OVERLOADED, VerdictKind.TRANSIENT, VerdictKind.OK]
    assert tally.attempts_begun == 3


async def test_an_attempt_that_was_cut_off_counts_as_timed_out() -> None:
    """The operation sees a cancel, the figures say why it came."""
    tally = Tally()
    policy = Policy("t", observers=[tally]).with_retry(attempts=2, wait=0).with_timeout(1)

    await policy.call(scripted(takes(5), "good"))

    assert tally.attempts == {VerdictKind.TIMEOUT: 1, VerdictKind.OK: 1}
    assert tally.retries == {"timeout": 1}


async def test_waits_are_summed_by_stage() -> None:
    """Count and seconds of every wait, under the name of the stage that made it."""
    tally = Tally()
    policy = Policy("t", observers=[tally]).with_retry(attempts=3, wait=2).with_rate("1/5s")

    await policy.call(scripted(BusyError(), "good"))

    assert tally.waits == {"backoff": Wait(1, 2.0), "rate_limit": Wait(1, 3.0)}


async def test_a_retry_after_an_open_circuit_is_told_from_one_after_a_429() -> None:
    """Both wait for a hint, but only one of them had asked the server."""
    tally = Tally()
    policy = (
        Policy("t", observers=[tally])
        .with_retry(attempts=4, wait=0)
        .with_breaker(failures=1, recover_after=2)
    )

    await policy.call(scripted(BusyError(), "good"))

    assert tally.retries == {"overloaded": 1, "circuit open": 1}
    assert tally.rejections == {"breaker": 1}
    assert tally.openings == 1


async def test_what_is_under_way_is_known_at_any_time() -> None:
    """Calls and attempts that have begun and not ended."""
    tally = Tally()
    policy = Policy("t", observers=[tally])
    seen: list[tuple[int, int]] = []

    async def look() -> None:
        seen.append((tally.calls_under_way, tally.attempts_under_way))

    await policy.call(look)

    assert seen == [(1, 1)]
    assert (tally.calls_under_way, tally.attempts_under_way) == (0, 0)


async def test_lost_calls_are_counted_by_outcome() -> None:
    """A call that fails in the end is among the ended ones, under its outcome."""
    tally = Tally()
    policy = Policy("t", observers=[tally])

    with pytest.raises(BusyError):
        await policy.call(scripted(BusyError()))

    assert tally.calls_ended == {"failure": 1}
