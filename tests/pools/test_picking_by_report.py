from __future__ import annotations

from math import exp
from random import Random

import pytest

from penstock.pools.candidate import Candidate, Member
from penstock.pools.picking.most_remaining import MostRemaining
from penstock.pools.picking.p2c_ewma import DEFAULT_DECAY, P2cEwma, observed
from penstock.pools.resource import Resource


def candidates(count: int) -> list[Candidate]:
    """Return candidates ``r0``, ``r1``, ..."""
    members = [Member(Resource(None, f"r{i}"), i, None) for i in range(count)]
    return [Candidate(member, member.order) for member in members]


# The latency


def test_a_slower_answer_counts_at_once() -> None:
    """The peak is remembered, not averaged away."""
    (candidate,) = candidates(1)

    observed(candidate, 0.1, now=0.0)
    observed(candidate, 2.0, now=0.1)

    assert (candidate.latency, candidate.latency_at) == (2.0, 0.1)


def test_a_faster_answer_counts_the_more_the_later_it_is() -> None:
    """After one decay time 37 % of the difference is left."""
    (candidate,) = candidates(1)
    observed(candidate, 2.0, now=0.0)

    observed(candidate, 1.0, now=10.0)

    assert DEFAULT_DECAY == 10.0
    assert candidate.latency == pytest.approx(1 + exp(-1))


def test_many_answers_at_once_are_one() -> None:
    """The average is over time: a burst of fast answers does not hide the slow one before."""
    (candidate,) = candidates(1)
    observed(candidate, 2.0, now=0.0)

    for _ in range(1000):
        observed(candidate, 0.1, now=0.001)

    assert candidate.latency > 1.99


def test_an_answer_that_is_late_to_be_told_adds_nothing() -> None:
    """Time does not run backwards for it."""
    (candidate,) = candidates(1)
    observed(candidate, 2.0, now=5.0)

    observed(candidate, 1.0, now=4.0)

    assert candidate.latency == 2.0


def test_an_answer_in_no_time_is_an_answer() -> None:
    """Its candidate is known from then on."""
    (candidate,) = candidates(1)

    observed(candidate, 0.0, now=0.0)

    assert 0 < candidate.latency < 1e-6


# P2C


def pair() -> tuple[P2cEwma, Candidate, Candidate]:
    """Return a picker with two candidates that have answered in 0.1 s."""
    picker = P2cEwma(lambda: 0.0)
    first, second = candidates(2)
    for candidate in (first, second):
        picker.add(candidate)
        observed(candidate, 0.1, now=0.0)
    return picker, first, second


def test_the_faster_of_two_serves() -> None:
    """Whichever of them was drawn first."""
    picker, first, second = pair()

    observed(first, 0.2, now=0.0)
    slow_first = picker.pick(None, 0.0)
    observed(second, 0.3, now=0.0)

    assert slow_first is second
    assert picker.pick(None, 0.0) is first


def test_the_busier_of_two_is_slower() -> None:
    """Latency is multiplied by the uses that there would be."""
    picker, first, second = pair()
    observed(second, 0.25, now=0.0)

    first.in_flight = 1
    at_one = picker.pick(None, 0.0)
    first.in_flight = 2

    assert at_one is first
    assert picker.pick(None, 0.0) is second


def test_an_old_latency_fades() -> None:
    """A slow one is tried again some time after its last answer."""
    picker, first, second = pair()
    observed(first, 5.0, now=0.0)

    before = picker.pick(None, 0.0)
    observed(second, 0.1, now=60.0)

    assert before is second
    assert picker.pick(None, 60.0) is first


def test_who_has_not_answered_yet_is_tried_once() -> None:
    """Idle it goes first; with a use under way it waits for the answer."""
    picker, first, second = pair()
    second.latency = 0.0

    idle = picker.pick(None, 0.0)
    second.in_flight = 1
    first.in_flight = 50

    assert idle is second
    assert picker.pick(None, 0.0) is first


def test_of_two_that_have_not_answered_the_less_busy_serves() -> None:
    """Nothing else is known about them."""
    picker, first, second = pair()
    first.latency = second.latency = 0.0
    first.in_flight, second.in_flight = 2, 1

    assert picker.pick(None, 0.0) is second


def test_every_pair_is_drawn_with_the_same_chance() -> None:
    """Both places of the pair, and never one candidate twice."""
    draws = iter((k + 0.5) / 12 for k in range(12))
    picker = P2cEwma(lambda: next(draws))
    ready = candidates(4)
    for candidate in ready:
        picker.add(candidate)
        # A later one is always better, so that the pick tells the larger of the pair.
        observed(candidate, 1.0 / (1 + candidate.order), now=0.0)

    picked = [picker.pick(None, 0.0) for _ in range(12)]

    assert [picked.count(candidate) for candidate in ready] == [0, 2, 4, 6]


def test_a_failing_one_is_avoided() -> None:
    """A failure that counts as 5 s outweighs how fast it failed."""
    dice = Random(3)
    picker, ready, served = P2cEwma(dice.random), candidates(4), [0] * 4
    for candidate in ready:
        picker.add(candidate)

    for step in range(400):
        candidate = picker.pick(None, step / 100)
        assert candidate is not None
        served[candidate.order] += 1
        observed(candidate, 5.0 if candidate.order == 0 else 0.2, now=step / 100)

    assert served[0] < 10
    assert min(served[1:]) > 80


# Most remaining


def known(*remaining: float | None, resets_at: float | None = None) -> list[Candidate]:
    """Return candidates with this much left."""
    found = candidates(len(remaining))
    for candidate, left in zip(found, remaining, strict=True):
        candidate.remaining, candidate.resets_at = left, resets_at
    return found


def picker_with(ready: list[Candidate]) -> MostRemaining:
    """Return a picker for which they are ready."""
    picker = MostRemaining()
    for candidate in ready:
        picker.add(candidate)
    return picker


def serve(picker: MostRemaining, count: int, now: float = 0.0) -> list[int]:
    """Use one after the other; return who served."""
    served: list[int] = []
    for _ in range(count):
        candidate = picker.pick(None, now)
        assert candidate is not None
        candidate.last_used = max(candidate.last_used, *_serials(picker)) + 1
        if candidate.remaining:
            candidate.remaining -= 1
        picker.used(candidate)
        picker.freed(candidate)
        served.append(candidate.order)
    return served


def _serials(picker: MostRemaining) -> list[int]:
    return [candidate.last_used for candidate in picker._ready.values()] * 2


def test_the_largest_quota_is_used_first() -> None:
    """Each use takes one off, so that they end up even."""
    picker = picker_with(known(2, 5, 4))

    assert serve(picker, 8) == [1, 1, 2, 1, 2, 0, 1, 2]


def test_a_report_counts_from_then_on() -> None:
    """More or less, it is what the service says."""
    ready = known(9, 5, 3)
    picker = picker_with(ready)

    ready[0].remaining = 1
    picker.rated(ready[0])
    lowered = picker.pick(None, 0.0)
    ready[2].remaining = 100
    picker.rated(ready[2])

    assert lowered is ready[1]
    assert picker.pick(None, 0.0) is ready[2]


def test_the_unknown_are_tried_in_turns() -> None:
    """So they become known."""
    ready = candidates(3)
    picker = picker_with(ready)
    turns = serve(picker, 4)

    ready[1].in_flight = 1
    picker.used(ready[1])

    assert turns == [0, 1, 2, 0]
    assert serve(picker, 3) == [2, 0, 2]


def test_one_that_is_never_known_gets_its_turns_and_no_more() -> None:
    """It is taken to have as much as the best, and the older use decides."""
    ready = known(50, 50, None)
    picker = picker_with(ready)

    served = serve(picker, 30)

    assert served[0] == 2
    assert 10 <= served.count(2) <= 15


def test_the_unknown_go_before_the_spent() -> None:
    """Less than one call is nothing."""
    ready = known(0.5, None)
    ready[1].last_used = ready[1].in_flight = 7

    assert picker_with(ready).pick(None, 0.0) is ready[1]


def test_a_quota_whose_time_is_up_is_unknown() -> None:
    """The next call finds out, although little was left."""
    ready = [*known(3, resets_at=10.0), *known(1, 8, resets_at=20.0)[1:]]
    picker = picker_with(ready)

    before = picker.pick(None, 9.9)
    ready[1].last_used = 1
    after = picker.pick(None, 10.0)

    assert before is ready[1]
    assert after is ready[0]


def test_a_reset_that_moves_on_is_waited_for() -> None:
    """A service that says "in 10 s" each time has not reset after the first ten."""
    ready = known(3, 8, resets_at=10.0)
    ready[1].last_used = 1
    ready[1].resets_at = None
    picker = picker_with(ready)

    ready[0].resets_at = 15.0
    picker.rated(ready[0])

    assert picker.pick(None, 12.0) is ready[1]
    assert picker.pick(None, 15.0) is ready[0]


def test_a_reset_that_was_withdrawn_is_not_waited_for() -> None:
    """The last report holds."""
    ready = known(3, 8, resets_at=10.0)
    ready[1].resets_at = None
    picker = picker_with(ready)

    ready[0].resets_at = None
    ready[1].last_used = 1
    picker.rated(ready[0])

    assert picker.pick(None, 12.0) is ready[1]


def test_an_earlier_reset_counts() -> None:
    """It does not wait for the later one that was said before."""
    ready = known(3, 8, resets_at=100.0)
    ready[1].last_used = 1
    picker = picker_with(ready)

    ready[0].resets_at = 5.0
    picker.rated(ready[0])

    assert picker.pick(None, 4.9) is ready[1]
    assert picker.pick(None, 5.0) is ready[0]


def test_a_reset_in_its_absence_is_no_news() -> None:
    """It comes back with what it says then."""
    ready = known(3, 8, resets_at=10.0)
    picker = picker_with(ready)
    picker.remove(ready[0])
    picker.pick(None, 11.0)

    ready[0].remaining, ready[0].resets_at = 100, 20.0
    ready[1].remaining, ready[1].resets_at = 50, 20.0
    picker.rated(ready[1])
    picker.add(ready[0])

    assert picker.pick(None, 11.0) is ready[0]


def test_a_lost_report_makes_it_unknown() -> None:
    """The service has stopped telling."""
    ready = known(3, 8)
    picker = picker_with(ready)

    ready[0].remaining, ready[1].last_used = None, 1
    picker.rated(ready[0])

    assert picker.pick(None, 0.0) is ready[0]


def test_those_who_never_come_back_are_not_waited_for() -> None:
    """Their resets may be a month away, and a pool of sessions sees new ones all the time."""
    picker = MostRemaining()

    for candidate in candidates(1000):
        candidate.remaining, candidate.resets_at = 5.0, 1e9 - candidate.order
        picker.add(candidate)
        picker.remove(candidate)

    assert len(picker._awaited) <= len(picker._resets) <= 64 + 2
