"""The rate limit stage, its two algorithms, its line of waiters, and aiolimiter as the oracle."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from aiolimiter import AsyncLimiter
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from penstock import (
    ConfigError,
    CooldownResource,
    DisableResource,
    Policy,
    PolicyError,
    RateLimitedError,
    current_call,
)
from penstock.events import CallRejected, WaitEnded
from penstock.stages.rate_limit import Rate, RateLimit, RateLimitOptions
from penstock.stages.rate_limit.limits import Gcra, SlidingWindow
from penstock.stages.rate_limit.machine import RateLimitMachine
from penstock.testing import EventLog, Sweep, cancel_sweep, run, scripted
from penstock.waitlist import Waiter

pytestmark = pytest.mark.virtual_time


# --- how a rate is written -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "amount", "per"),
    [
        (10, 10, 1),
        (0.05, 0.05, 1),
        ("10/s", 10, 1),
        ("10/second", 10, 1),
        ("10 per minute", 10, 60),
        ("600/min", 600, 60),
        ("600/m", 600, 60),
        ("100/10s", 100, 10),
        ("100 / 10 seconds", 100, 10),
        ("5/ms", 5, 0.001),
        ("1000/h", 1000, 3600),
        ("2.5/d", 2.5, 86400),
    ],
)
def test_a_rate_is_read_as_people_write_it(written: Any, amount: float, per: float):
    """Numbers are per second; texts name their span."""
    assert Rate.of(written) == Rate(amount, per)


@pytest.mark.parametrize(
    "written",
    [
        0,
        -1,
        math.nan,
        math.inf,
        True,
        None,
        "",
        "10",
        "10/",
        "/s",
        "10/0s",
        "ten/s",
        "10/fortnight",
    ],
)
def test_a_rate_that_cannot_be_read_is_refused(written: Any):
    """The error shows the forms that are allowed."""
    with pytest.raises(
        ConfigError, match=r"^rate_limit: 'rate' must be a number per second above 0"
    ):
        RateLimitOptions(rate=written)


@pytest.mark.parametrize(
    "rates", [[], {}, ["10/s", {"a": 1}], {"tokens": "x"}, [Rate(1, 1, "a"), Rate(2, 1, "a")]]
)
def test_several_rates_are_refused_when_one_is_wrong(rates: Any):
    """None at all, nested ones and doubled names are wrong too."""
    with pytest.raises(ConfigError, match="'rate' must be"):
        RateLimitOptions(rate=rates)


@pytest.mark.parametrize(
    ("written", "units", "seconds"),
    [(10, 10, 1), (0.05, 1, 20), (2.5, 2, 0.8), ("90/min", 90, 60)],
)
def test_a_window_holds_whole_units(written: Any, units: int, seconds: float):
    """The long-run rate stays what was asked for."""
    assert Rate.of(written).whole() == pytest.approx((units, seconds))


# --- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("burst", 0),
        ("burst", 1.5),
        ("max_wait", -1),
        ("max_wait", math.nan),
        ("cost", -1),
        ("cost", math.nan),
        ("cost", "1"),
        ("cost", True),
        ("cost", {"tokens": 1}),
    ],
)
def test_an_option_that_is_not_allowed_is_refused(field: str, value: Any):
    """The error names the field and the value."""
    with pytest.raises(ConfigError, match=f"'{field}'.* must be"):
        RateLimitOptions(**{"rate": 10, field: value})


def test_a_cost_that_no_window_can_hold_is_refused_at_once():
    """Waiting would never help."""
    with pytest.raises(ConfigError, match=r"at most what the limit holds .10.; got 11"):
        RateLimit(RateLimitOptions(rate=10, cost=11))


# --- sliding window and GCRA, with plain numbers for now -----------------------------------------

Kind = Callable[[int], SlidingWindow | Gcra]


def _sliding(units: int) -> SlidingWindow:
    return SlidingWindow(Rate(units))


def _bucket(units: int) -> Gcra:
    return Gcra(Rate(units), units)


def test_a_sliding_window_admits_its_units_and_then_waits_for_the_oldest():
    """Ten a second: the eleventh starts when the first is a second old."""
    window = SlidingWindow(Rate(10))

    assert all(window.try_take(n / 100, 1) for n in range(10))
    assert window.try_take(0.5, 1) is None
    assert window.ready_at(0.5, 1) == 1.0
    assert window.try_take(1.0, 1) is not None
    assert window.try_take(1.0, 1) is None


def test_idling_saves_nothing_up_in_a_sliding_window():
    """After an hour of silence it is still ten in a second."""
    window = SlidingWindow(Rate(10))
    window.try_take(0, 1)

    assert sum(window.try_take(3600, 1) is not None for _ in range(50)) == 10


def test_gcra_admits_its_burst_and_then_evenly():
    """A burst of three at ten a second: three at once, then one every tenth."""
    bucket = Gcra(Rate(10), 3)

    assert sum(bucket.try_take(0.0, 1) is not None for _ in range(9)) == 3
    assert bucket.ready_at(0.0, 1) == pytest.approx(0.1)
    assert bucket.try_take(0.1, 1) is not None
    assert bucket.try_take(0.1, 1) is None
    assert bucket.available(5) == 3


@pytest.mark.parametrize("kind", [_sliding, _bucket])
def test_what_is_given_back_can_be_taken_again(kind: Kind):
    """A refund never fills it above what it can hold."""
    limit = kind(10)
    receipt = limit.try_take(0.0, 10)
    assert limit.try_take(0.0, 1) is None

    limit.give_back(0.0, receipt, 4)
    assert limit.available(0.0) == pytest.approx(4)

    limit.give_back(0.0, receipt, 100)
    limit.give_back(50.0, receipt, 100)
    assert limit.available(50.0) == 10


@pytest.mark.parametrize("kind", [_sliding, _bucket])
def test_a_charge_above_the_limit_is_a_debt(kind: Kind):
    """Who used 25 of 10 units waits until they have passed."""
    limit = kind(10)
    limit.try_take(0.0, 5)
    limit.charge(0.0, 20)

    assert limit.available(0.0) == 0
    assert limit.try_take(0.9, 1) is None
    assert limit.try_take(3.0, 1) is not None


def test_a_sum_of_odd_costs_leaves_no_crumbs():
    """Floats drift; an empty window is exactly empty."""
    window = SlidingWindow(Rate(1))
    for second in range(1000):
        for _ in range(10):
            assert window.try_take(float(second), 0.1) is not None
        assert window.try_take(float(second), 0.1) is None


@pytest.mark.parametrize("kind", [_sliding, _bucket])
def test_another_rate_starts_from_what_was_used(kind: Kind):
    """Lowering the rate makes up for the starts already made."""
    limit = kind(100)
    limit.try_take(0.0, 100)

    limit.change(Rate(10), 10, 0.0)

    assert limit.try_take(0.5, 1) is None
    assert limit.try_take(12.0, 1) is not None


def test_what_stood_in_line_for_more_than_a_lowered_rate_gets_through():
    """It passes alone, in an empty window, instead of blocking the line for ever."""
    machine = RateLimitMachine([Rate(10)])
    machine.admit(0.0, (10,))
    waiter = machine.park((8,))

    machine.change([Rate(5)], None, 0.1)

    assert machine.next_at(0.1) == 1.0
    assert machine.grant_due(1.0) == [waiter]


# --- the machine -----------------------------------------------------------------------------


def test_several_limits_are_taken_together_or_not_at_all():
    """What one refuses, the other must not have charged."""
    machine = RateLimitMachine([Rate(10), Rate(12, 60)])
    assert machine.admit(0.0, (10, 10)) is not None
    assert machine.admit(1.5, (3, 3)) is None

    assert [limit.available(1.5) for limit in machine.limits] == [10, 2]


def test_the_estimate_counts_who_stands_before():
    """Thirty in line before it, at ten a second: it starts in the fourth second."""
    machine = RateLimitMachine([Rate(10)])
    machine.admit(0.0, (10,))
    for _ in range(30):
        machine.park((1,))

    assert machine.estimate(0.0, (1,)) == 4.0
    assert machine.estimate(0.0, (1,), priority=5) == 1.0


def test_a_large_request_is_not_starved_by_small_ones():
    """Nobody overtakes the head of the line."""
    machine = RateLimitMachine([Rate(10)])
    machine.admit(0.0, (6,))
    large, small = machine.park((10,)), machine.park((1,))

    assert machine.grant_due(0.5) == []
    assert machine.admit(0.5, (1,)) is None
    assert machine.grant_due(1.0) == [large]
    assert machine.grant_due(2.0) == [small]


COSTS = st.integers(1, 5)


class Line(RuleBasedStateMachine):
    """Any mixture of arrivals, time, cancels, refunds: order, conservation, the limit itself."""

    burst: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.machine = RateLimitMachine([Rate(10, 2)], self.burst)
        self.now = 100.0
        self.parked: deque[Waiter] = deque()
        self.starts: list[tuple[float, float]] = []
        self.held: list[tuple[Any, float, float]] = []
        self.refunds: list[tuple[float, float]] = []

    def _started(self, receipts: Any, cost: float) -> None:
        self.starts.append((self.now, cost))
        self.held.append((receipts, self.now, cost))

    @rule(cost=COSTS)
    def arrive(self, cost: int) -> None:
        receipts = self.machine.admit(self.now, (cost,))
        if receipts is None:
            self.parked.append(self.machine.park((cost,)))
        else:
            assert not self.parked
            self._started(receipts, cost)

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 2.0, 7.0]))
    def time_passes(self, seconds: float) -> None:
        until = self.now + seconds
        while (at := self.machine.next_at(self.now)) is not None and at <= until:
            self.now = max(self.now, at)
            for waiter in self.machine.grant_due(self.now):
                assert waiter is self.parked.popleft()
                self._started(waiter.held, waiter.cost[0])
        self.now = until

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.parked:
            waiter = self.parked[data.draw(st.integers(0, len(self.parked) - 1))]
            self.parked.remove(waiter)
            assert self.machine.abandon(waiter)
            assert self.machine.abandon(waiter)
            self.time_passes(0.0)

    @rule(data=st.data())
    def refund(self, data: st.DataObject) -> None:
        if self.held:
            receipts, at, cost = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
            self.machine.give_back(self.now, receipts, (cost,))
            self.refunds.append((self.now, cost))
            if self.burst is None:
                self.starts.remove((at, cost))
            self.time_passes(0.0)

    @invariant()
    def no_window_holds_more_than_the_limit(self) -> None:
        for at, _ in self.starts:
            inside = sum(cost for start, cost in self.starts if at <= start < at + 2 - 1e-6)
            back = sum(cost for when, cost in self.refunds if at <= when <= at + 2)
            # A sliding window forgets what was given back; to a bucket it is new units.
            assert inside <= (10 if self.burst is None else self.burst + 10 + back)

    @invariant()
    def who_can_start_is_not_kept_waiting(self) -> None:
        assert self.machine.queued == len(self.parked)
        at = self.machine.next_at(self.now)
        assert (at is None) == (not self.parked)
        assert at is None or at > self.now


class BucketLine(Line):
    """The same with GCRA."""

    burst = 5


TestLine = Line.TestCase
TestBucketLine = BucketLine.TestCase


@given(
    costs=st.lists(st.integers(1, 10), min_size=1, max_size=40),
    burst=st.sampled_from([None, 10]),
)
def test_the_estimate_is_never_too_late(costs: list[int], burst: int | None):
    """A call that could be served must not be refused for its deadline."""
    machine = RateLimitMachine([Rate(10)], burst)
    now, promised = 0.0, deque[tuple[Waiter, float]]()
    for cost in costs:
        if machine.admit(now, (cost,)) is None:
            promised.append((machine.park((cost,)), 0.0))
            waiter, _ = promised.pop()
            machine.abandon(waiter)
            when = machine.estimate(now, (cost,))
            promised.append((machine.park((cost,)), when))

    while (at := machine.next_at(now)) is not None:
        now = at
        for waiter in machine.grant_due(now):
            expected, when = promised.popleft()
            assert waiter is expected
            assert when <= now + 1e-6


@settings(deadline=None)
@given(
    rate=st.sampled_from([0.05, 0.3, 1, 2.5, 7, 1000, 50_000]), burst=st.sampled_from([None, 1, 9])
)
def test_the_rate_is_kept_within_a_hundredth(rate: float, burst: int | None):
    """From one in twenty seconds to 50,000 a second, and no window above its bound."""
    machine = RateLimitMachine([Rate(rate)], burst)
    starts: list[float] = []
    now, span = 0.0, 3000 / rate
    while now < span:
        if machine.admit(now, (1,)) is None:
            machine.park((1,))
            now = machine.next_at(now) or now
            starts += [now] * len(machine.grant_due(now))
        else:
            starts.append(now)

    units, period = (burst, 0.0) if burst else Rate(rate).whole()
    assert (len(starts) - units) / starts[-1] == pytest.approx(rate, rel=0.01) or burst is None
    long_run = (len(starts) - units) / (starts[-1] - starts[0] + 1e-12)
    assert long_run <= rate * 1.01
    _assert_windows(starts, units + rate * (period or 1), period or 1)


def _assert_windows(starts: Sequence[float], most: float, span: float) -> None:
    for first in range(0, len(starts), 97):
        last = bisect_right(starts, starts[first] + span * (1 - 1e-9))
        assert last - first <= most + 1e-6


# --- the stage -------------------------------------------------------------------------------


async def _start_times(policy: Policy, calls: int) -> list[float]:
    operation = scripted(then="done")
    await asyncio.gather(*(policy.call(operation) for _ in range(calls)))
    return operation.times


async def test_ten_a_second_is_never_more_than_ten_in_any_second():
    """Ten at once, ten a second later, and so on; in order."""
    assert await _start_times(Policy().with_rate(10), 25) == [0] * 10 + [1] * 10 + [2] * 5


async def test_a_burst_makes_it_even():
    """Two at once, then one every tenth of a second."""
    times = await _start_times(Policy().with_rate(10, burst=2), 6)

    assert times == pytest.approx([0, 0, 0.1, 0.2, 0.3, 0.4])


async def test_a_rate_below_one_needs_no_further_setting():
    """One in twenty seconds."""
    assert await _start_times(Policy().with_rate(0.05), 3) == [0, 20, 40]


async def test_the_line_is_served_in_order_and_by_priority():
    """First come, first served; higher priority before."""
    policy, served = Policy().with_rate(1), list[str]()

    async def operation(name: str) -> None:
        served.append(name)

    calls = [policy.call(operation, "first"), policy.call(operation, "second")]
    calls += [policy.call(operation, "third"), policy.using(priority=1).call(operation, "urgent")]
    await asyncio.gather(*calls)

    assert served == ["first", "urgent", "second", "third"]


async def test_a_wait_longer_than_max_wait_is_not_begun():
    """The rejection says when to come back."""
    policy = Policy("p").with_rate(2, max_wait=1.5)
    operation = scripted(then="done")
    calls = [policy.call(operation) for _ in range(5)]

    results = await asyncio.gather(*calls, return_exceptions=True)

    assert results[:4] == ["done"] * 4
    assert isinstance(results[4], RateLimitedError)
    assert results[4].retry_after == 2
    assert str(results[4]) == "policy 'p': the rate limit of 2/1s is reached; retry after 2 s"


async def test_a_wait_that_cannot_end_before_the_deadline_is_not_begun():
    """The caller gets the answer now, not at the deadline."""
    policy = Policy().with_timeout(3).with_rate(1)
    operation = scripted(then="done")

    results = await asyncio.gather(
        *(policy.call(operation) for _ in range(5)), return_exceptions=True
    )

    assert [type(r).__name__ for r in results] == ["str"] * 3 + ["RateLimitedError"] * 2
    assert asyncio.get_running_loop().time() == 2


async def test_max_wait_ends_a_wait_that_others_have_made_longer():
    """Somebody of higher priority comes between."""
    policy = Policy().with_rate(1, max_wait=1)
    operation = scripted(then="done")
    await policy.call(operation)
    waiting = asyncio.create_task(policy.call(operation))
    await asyncio.sleep(0.5)
    urgent = asyncio.create_task(policy.using(priority=1).call(operation))

    with pytest.raises(RateLimitedError):
        await waiting
    assert await urgent == "done"


async def test_a_cancelled_waiter_leaves_its_turn_to_the_next():
    """Nothing is lost by it, and nobody waits for it."""
    policy = Policy().with_rate(1)
    operation = scripted(then="done")
    await policy.call(operation)
    waiting = [asyncio.create_task(policy.call(operation)) for _ in range(3)]
    await asyncio.sleep(0)

    waiting[0].cancel()
    await asyncio.wait(waiting)

    assert operation.times == [0, 1, 2]


async def test_a_large_head_that_leaves_frees_those_behind_it():
    """Nobody waits for somebody who is gone."""
    policy = Policy().with_rate(10)
    operation = scripted(then="done")
    await policy.using(cost=5).call(operation)
    large = asyncio.create_task(policy.using(cost=10).call(operation))
    small = asyncio.create_task(policy.call(operation))
    await asyncio.sleep(0.25)

    large.cancel()
    await asyncio.wait([large, small])

    assert operation.times == [0, 0.25]


async def test_a_call_may_cost_more_than_one():
    """Five tokens cost five times one; more than the limit holds is refused at once."""
    policy = Policy().with_rate("10/s", cost=5)
    operation = scripted(then="done")

    await policy.gather(lambda _: operation(), range(5))

    assert operation.times == [0, 0, 1, 1, 2]
    with pytest.raises(ConfigError, match="at most what the limit holds"):
        await policy.using(cost=11).call(operation)


async def test_a_cost_can_depend_on_the_call():
    """The callable sees the call with its arguments."""
    policy = Policy().with_rate(10, cost=lambda call: call.args[0])
    operation = scripted(then="done")

    await asyncio.gather(*(policy.call(operation, units) for units in (6, 4, 1)))

    assert operation.times == [0, 0, 1]


async def test_requests_and_tokens_are_limited_together():
    """Each call is one request and as many tokens as it says."""
    policy = Policy().with_rate({"requests": "3/s", "tokens": "100/s"})
    operation = scripted(then="done")

    calls = [policy.using(cost={"tokens": tokens}).call(operation) for tokens in (60, 40, 1, 1)]
    await asyncio.gather(*calls)

    assert operation.times == [0, 0, 1, 1]
    with pytest.raises(ConfigError, match=r"by the names of its rates .requests, tokens."):
        await policy.using(cost={"token": 1}).call(operation)


async def test_several_rates_without_names_are_all_charged():
    """Five a second and twelve a minute."""
    times = await _start_times(Policy().with_rate(["5/s", "12/min"]), 13)

    assert times == [0] * 5 + [1] * 5 + [2] * 2 + [60]


async def test_an_operation_settles_what_it_really_used():
    """Too much comes back at once, too little is charged as debt."""
    policy = Policy().with_rate({"requests": "10/s", "tokens": "100/s"}, cost={"tokens": 90})
    starts = []

    async def ask(used: int) -> None:
        starts.append(asyncio.get_running_loop().time())
        current_call().settle(tokens=used)

    await policy.call(ask, 10)
    await policy.call(ask, 150)
    await policy.call(ask, 1)

    assert starts == [0, 0, 1]


async def test_settling_takes_a_sound_amount_and_a_call_that_waits_for_it():
    """Negative, NaN and unknown names are refused; so is a call without a cost."""
    policy = Policy().with_rate(10, cost=2)
    errors: list[str] = []

    async def ask() -> None:
        for settle in ({"cost": -1}, {"cost": math.nan}, {"tokens": 1}):
            with pytest.raises(ConfigError) as caught:
                current_call().settle(**settle)
            errors.append(str(caught.value))

    await policy.call(ask)

    assert len(errors) == 3
    with pytest.raises(PolicyError, match="no call under way here"):
        current_call()

    async def without_cost(call: Any, call_next: Any) -> Any:
        call.settle(3)

    with pytest.raises(PolicyError, match="takes a cost; give with_rate a cost= first"):
        await Policy().with_stage(without_cost).call(ask)


async def test_what_never_reached_the_server_comes_back():
    """A refused key or connection costs nothing."""
    policy = Policy().with_rate(1)

    for failure in (ConnectionRefusedError(), DisableResource("revoked")):
        with pytest.raises(type(failure)):
            await policy.call(scripted(failure))
    await policy.call(scripted("done"))

    assert asyncio.get_running_loop().time() == 0


async def test_an_attempt_that_failed_on_the_way_is_paid():
    """Retries pay the rate like any other start."""
    operation = scripted(ConnectionResetError, ConnectionResetError, "done")

    await Policy().with_retry(3, wait=0).with_rate(1).call(operation)

    assert operation.times == [0, 1, 2]


async def test_a_servers_hint_stops_everybody():
    """One 429 tells the others that have not started yet."""
    policy = Policy().with_rate(100)
    with pytest.raises(CooldownResource):
        await policy.call(scripted(CooldownResource(30)))
    operation = scripted("done")

    await policy.call(operation)

    assert operation.times == [30]
    assert policy.snapshot()["stages"][0]["paused_for"] == 0


async def test_a_hint_beyond_two_minutes_is_capped():
    """A server that says "tomorrow" does not stop a process until tomorrow."""
    policy = Policy().with_rate(100)
    with pytest.raises(CooldownResource):
        await policy.call(scripted(CooldownResource(86400)))

    assert policy.snapshot()["stages"][0]["paused_for"] == 120


async def test_trying_never_waits_and_overtakes_nobody():
    """It answers at once; a failed try changes nothing."""
    stage = RateLimit(RateLimitOptions(rate=3))

    assert stage.try_acquire(2) is True
    assert stage.try_acquire(2) is False
    assert stage.try_acquire() is True
    assert stage.try_acquire() is False
    with pytest.raises(ConfigError):
        stage.try_acquire(-1)
    with pytest.raises(ConfigError):
        stage.try_acquire(4)


async def test_a_reservation_holds_a_place_in_line():
    """It can be waited for, settled or cancelled."""
    stage = RateLimit(RateLimitOptions(rate=2))
    first, second = stage.reserve(2), stage.reserve(1)
    third = stage.reserve(1)

    assert (first.granted, second.granted) == (True, False)
    with pytest.raises(PolicyError, match="await wait"):
        second.settle(1)
    first.cancel()
    await second.wait()
    await third.wait()
    assert asyncio.get_running_loop().time() == 0
    assert second.granted
    await second.wait()
    second.cancel()
    with pytest.raises(PolicyError, match="was cancelled"):
        await second.wait()


async def test_a_reservation_cancelled_in_line_frees_its_place():
    """Those behind move up."""
    stage = RateLimit(RateLimitOptions(rate=1))
    await stage.acquire()
    gone, next_one = stage.reserve(), stage.reserve()

    gone.cancel()
    await next_one.wait()

    assert asyncio.get_running_loop().time() == 1


async def test_acquiring_takes_a_start_outside_of_any_policy():
    """It waits its turn, at most ``max_wait``, and can be given back."""
    stage = RateLimit(RateLimitOptions(rate=1, max_wait=5))
    first = await stage.acquire()
    with pytest.raises(RateLimitedError, match="reservation: the rate limit of 1/1s is reached"):
        await stage.acquire(max_wait=0.5)

    first.cancel()
    await stage.acquire()
    assert asyncio.get_running_loop().time() == 0.5


async def test_the_rate_can_change_while_calls_wait():
    """The line moves at the new pace at once."""
    stage = RateLimit(RateLimitOptions(rate="1/min"))
    policy, operation = Policy().with_stage(stage), scripted(then="done")
    calls = [asyncio.create_task(policy.call(operation)) for _ in range(4)]
    await asyncio.sleep(5)

    stage.change_rate("2/s")
    await asyncio.wait(calls)

    assert operation.times == [0, 5, 5, 6]
    assert stage.snapshot()["rates"] == ["2/1s"]
    with pytest.raises(ConfigError, match="1 rates, as before"):
        stage.change_rate(["1/s", "2/s"])


async def test_waits_and_rejections_are_events():
    """Observers learn how long, and when to come back."""
    log = EventLog()
    policy = Policy(observers=[log]).with_rate(1, max_wait=1)
    operation = scripted(then="done")

    await asyncio.gather(*(policy.call(operation) for _ in range(3)), return_exceptions=True)

    assert log.only(WaitEnded).seconds == 1
    assert log.only(CallRejected).retry_after == 2


async def test_the_snapshot_is_plain_data():
    """Rates, what could start now, and how many wait."""
    policy = Policy().with_rate("10/min")
    await policy.call(scripted("done"))

    assert policy.snapshot()["stages"] == [
        {
            "stage": "rate_limit",
            "rates": ["10/60s"],
            "available": [9],
            "waiting": 0,
            "paused_for": 0.0,
        }
    ]
    assert policy.fresh().snapshot()["stages"][0]["available"] == [10]


def test_cancelled_at_any_point_nothing_is_lost():
    """Cancel sweep: all three others start as if the victim had never been, or had started."""

    async def scenario(sweep: Sweep) -> list[Any]:
        policy = Policy().with_rate(1)
        operation = scripted(then="done")
        sweep.beside(policy.call(operation))
        sweep.victim(policy.call(operation))
        sweep.beside(policy.call(operation), policy.call(operation))
        return operation.calls

    def check(calls: Any) -> None:
        times = [call.at for call in calls]
        assert times == [float(n) for n in range(len(times))]
        assert len(times) in (3, 4)

    assert cancel_sweep(scenario, check) > 2


@pytest.mark.parametrize("max_wait", [None, 0.5])
def test_an_acquire_cancelled_at_any_point_gives_up_its_place(max_wait: float | None):
    """Cancel sweep over the way in without a policy: the others have their starts each second."""

    async def scenario(sweep: Sweep) -> tuple[RateLimit, list[float]]:
        stage, starts = RateLimit(RateLimitOptions(rate=1)), list[float]()

        async def start(patience: float | None = None) -> None:
            await stage.acquire(max_wait=patience)
            starts.append(asyncio.get_running_loop().time())

        sweep.beside(start())
        sweep.victim(start(max_wait))
        sweep.beside(start(), start())
        return stage, starts

    def check(state: tuple[RateLimit, list[float]]) -> None:
        stage, starts = state
        assert stage.snapshot()["waiting"] == 0
        assert starts == pytest.approx(range(len(starts)))
        assert len(starts) in (3, 4)

    assert cancel_sweep(scenario, check, raises=RateLimitedError) > 2


def test_a_line_left_by_a_closed_loop_is_forgotten():
    """The next loop starts with what the window holds, and nobody before it."""
    policy = Policy().with_rate("1/s")
    left: list[Any] = []

    async def leave_waiting() -> None:
        await policy.call(scripted("done"))
        asyncio.get_running_loop().call_later(0.5, asyncio.get_running_loop().stop)
        left.append(asyncio.ensure_future(policy.call(scripted("never"))))
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave_waiting())
    loop.close()

    async def main() -> str:
        return await policy.call(scripted("served"))

    assert asyncio.run(main()) == "served"
    assert policy.snapshot()["stages"][0]["waiting"] == 0
    for task in left:
        task._log_destroy_pending = False


# --- the caller's own AsyncLimiter ------------------------------------------------------------


async def test_an_async_limiter_is_used_as_it_is():
    """Its bucket is the caller's, and other users of it count."""
    limiter = AsyncLimiter(2, 1)
    log = EventLog()
    policy = Policy(observers=[log]).with_rate(limiter)
    operation = scripted(then="done")

    await limiter.acquire()
    await asyncio.gather(*(policy.call(operation) for _ in range(3)))

    assert operation.times == pytest.approx([0, 0.5, 1.0])
    assert len(log.of(WaitEnded)) == 2
    assert policy.snapshot()["stages"] == [
        {"stage": "rate_limit", "rates": ["2/1s"], "has_capacity": False}
    ]
    assert policy.fresh().stages[0].limiter is limiter  # type: ignore[attr-defined]


async def test_an_async_limiter_takes_a_cost_and_no_options_of_ours():
    """What it cannot do is refused when the policy is built."""
    limiter = AsyncLimiter(10, 1)
    operation = scripted(then="done")
    policy = Policy().with_rate(limiter, cost=5)

    await asyncio.gather(*(policy.call(operation) for _ in range(3)))

    assert operation.times == pytest.approx([0, 0, 0.5])
    for options in ({"burst": 3}, {"max_wait": 1}, {"cost": 11}, {"cost": 0}, {"cost": len}):
        with pytest.raises(ConfigError, match="AsyncLimiter"):
            Policy().with_rate(limiter, **options)


@given(
    rate=st.integers(1, 8),
    per=st.integers(1, 3),
    gaps=st.lists(st.sampled_from([0, 0, 0.137, 0.511, 2.003]), min_size=1, max_size=30),
)
def test_gcra_has_room_exactly_when_aiolimiter_has(rate: int, per: int, gaps: list[float]):
    """Same bucket (burst = max_rate), same starts: just before it is ready both are full."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = Gcra(Rate(rate, per), rate), AsyncLimiter(rate, per)

        async def start() -> None:
            assert theirs.has_capacity()
            assert ours.try_take(loop.time(), 1) is not None
            await theirs.acquire()

        for gap in gaps:
            await asyncio.sleep(gap)
            wait = ours.ready_at(loop.time(), 1) - loop.time()
            if wait > 0.001:
                await asyncio.sleep(wait - 0.0005)
                assert not theirs.has_capacity()
                assert ours.try_take(loop.time(), 1) is None
                await asyncio.sleep(0.001)
            await start()

    run(main())
