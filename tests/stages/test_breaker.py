from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import threading
import tracemalloc
from datetime import timedelta
from typing import Any

import pybreaker
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock import clock
from penstock.errors import CircuitOpenError, ConfigError, PolicyError
from penstock.events import CallRejected, CircuitChanged, HookFailed
from penstock.policy import Policy
from penstock.stages.breaker import Breaker, BreakerOptions
from penstock.stages.breaker.admission import Admitted, Rejected, State
from penstock.stages.breaker.machine import BreakerMachine
from penstock.stages.breaker.window import BUCKETS, FAILED, SLOW, CallWindow, TimeWindow, Window
from penstock.testing import EventLog, Sweep, cancel_sweep, run, scripted, takes
from penstock.verdict import BreakerEffect, CooldownResource, VerdictKind

SUCCESS, FAILURE, NEUTRAL = BreakerEffect.SUCCESS, BreakerEffect.FAILURE, BreakerEffect.NEUTRAL


# --- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("failures", 0),
        ("failures", True),
        ("failures", 2.5),
        ("failure_ratio", 0),
        ("failure_ratio", 1.01),
        ("failure_ratio", math.nan),
        ("recover_after", 0),
        ("recover_after", math.inf),
        ("recover_after", "30"),
        ("recover_growth", 0.5),
        ("probes", 0),
        ("successes", -1),
        ("failure_on", []),
        ("failure_on", asyncio.CancelledError),
        ("failure_on", "ok"),
        ("on_state_change", "log"),
        ("label", ""),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(field: str, value: object):
    """The error names the stage, the field and the value."""
    with pytest.raises(ConfigError, match=f"^breaker: '{field}' must be .*; got "):
        BreakerOptions(**{field: value})


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("slow_ratio", {"slow_after": 1}),
        ("slow_after", {"slow_ratio": 0.5}),
        ("window_calls", {"window_calls": 10}),
        ("window_seconds", {"window_seconds": 10}),
        ("minimum_calls", {"minimum_calls": 10}),
        ("window_seconds", {"failure_ratio": 0.5, "window_seconds": 1, "window_calls": 1}),
        ("minimum_calls", {"failure_ratio": 0.5, "window_calls": 5, "minimum_calls": 6}),
        ("minimum_calls", {"failure_ratio": 0.5, "minimum_calls": 101}),
        ("max_recover_after", {"recover_after": 60, "max_recover_after": 30}),
    ],
)
def test_options_that_do_not_go_together_are_refused(field: str, options: dict[str, Any]):
    """The error names the field that is missing or too many."""
    with pytest.raises(ConfigError, match=f"^breaker: '{field}' must be "):
        BreakerOptions(**options)


def test_durations_may_be_timedeltas():
    """They are stored in seconds."""
    assert BreakerOptions(recover_after=timedelta(minutes=1)).recover_after == 60  # type: ignore[arg-type]


# --- windows ---------------------------------------------------------------------------------


def counts(window: Window) -> tuple[int, int, int]:
    """Return calls, failed, slow."""
    return window.calls, window.failed, window.slow


@given(st.lists(st.integers(0, FAILED + SLOW)), st.integers(1, 8))
def test_a_call_window_counts_the_last_calls(marks: list[int], size: int):
    """Its sums are those of a list that is cut to its size."""
    window = CallWindow(size)

    for mark in marks:
        window.add(mark, 0.0)

    last = marks[-size:]
    expected = (len(last), sum(m & FAILED for m in last), sum(m // SLOW for m in last))
    assert counts(window) == expected


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, FAILED + SLOW)), max_size=60))
def test_a_time_window_counts_the_calls_of_its_last_buckets(steps: list[tuple[int, int]]):
    """Its sums are those of all calls less than BUCKETS buckets old."""
    window, tick, calls = TimeWindow(BUCKETS), 0, []

    for passed, mark in steps:
        tick += passed // 4
        window.add(mark, tick + 0.5)
        calls.append((tick, mark))

    last = [mark for at, mark in calls if at > tick - BUCKETS]
    expected = (len(last), sum(m & FAILED for m in last), sum(m // SLOW for m in last))
    assert counts(window) == expected


def test_a_time_window_goes_on_after_the_clock_went_back():
    """What it holds grows old from the new time on, and new calls still leave it."""
    window = TimeWindow(10)
    window.add(FAILED, 1_000_000.0)

    window.add(FAILED, 5.0)
    window.expire(14.9)
    kept = window.calls
    window.expire(15.0)

    assert (kept, window.calls) == (2, 0)


def test_a_window_of_100_000_calls_stays_flat():
    """Memory does not grow with the calls."""
    machine = BreakerMachine(BreakerOptions(failure_ratio=0.9, window_calls=100_000))
    feed(machine, SUCCESS, 1000)

    tracemalloc.start()
    try:
        feed(machine, SUCCESS, 100_000)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert machine.window is not None
    assert machine.window.calls == 100_000
    assert grown < 10_000


# --- machine ---------------------------------------------------------------------------------


def machine_of(**options: Any) -> BreakerMachine:
    """Return a machine with these options."""
    return BreakerMachine(BreakerOptions(**options))


def admitted(machine: BreakerMachine, now: float = 0.0) -> Admitted:
    """Admit a call that has to be let in."""
    admission = machine.admit(now)
    assert isinstance(admission, Admitted)
    return admission


def feed(machine: BreakerMachine, effect: BreakerEffect, times: int = 1, now: float = 0.0) -> None:
    """Let calls through one after another, all with the same outcome."""
    for _ in range(times):
        machine.record(admitted(machine, now), effect, now)


def opened(now: float = 0.0, **options: Any) -> BreakerMachine:
    """Return a machine that a failure has opened."""
    machine = machine_of(failures=1, **options)
    feed(machine, FAILURE, now=now)
    return machine


def test_five_failures_in_a_row_open_the_circuit():
    """Four do not, and the fifth says so."""
    machine = machine_of()
    feed(machine, FAILURE, 4)

    change = machine.record(admitted(machine), FAILURE, 0.0)

    assert change is not None
    assert (change.old, change.new) == (State.CLOSED, State.OPEN)
    assert change.reason == "5 failures in a row"


def test_a_success_ends_the_row():
    """Four failures, a success and four failures leave the circuit closed."""
    machine = machine_of()

    feed(machine, FAILURE, 4)
    feed(machine, SUCCESS)
    feed(machine, FAILURE, 4)

    assert machine.state is State.CLOSED


def test_a_neutral_outcome_leaves_the_row_as_it_is():
    """It neither counts nor starts the row anew."""
    machine = machine_of()
    feed(machine, FAILURE, 3)

    feed(machine, NEUTRAL, 10)

    assert machine.failures == 3


def test_a_success_is_heeded_only_where_it_ends_a_row():
    """The stage may skip recording it otherwise."""
    machine = machine_of()
    calm = machine.heeds_success
    feed(machine, FAILURE)
    counting = machine.heeds_success
    feed(machine, SUCCESS)

    assert (calm, counting, machine.heeds_success) == (False, True, False)


def test_an_open_circuit_says_when_to_come_back():
    """What is left of the open time is in the rejection."""
    machine = opened(now=100.0)

    assert machine.admit(117.5) == Rejected(12.5)


@given(
    st.floats(0, 1e8),
    st.floats(0, 1, exclude_max=True),
    st.floats(1e-3, 3600),
)
def test_who_waits_for_exactly_retry_after_is_let_in(at: float, part: float, open_for: float):
    """Rounding does not turn the caller away once more, not even after three years of uptime."""
    machine = opened(now=at, recover_after=open_for)
    now = at + part * open_for
    rejected = machine.admit(now)
    assume(isinstance(rejected, Rejected))

    admission = machine.admit(now + rejected.retry_after)

    assert isinstance(admission, Admitted)


def test_the_first_call_after_the_open_time_is_a_probe():
    """It changes the state, and tells so once."""
    machine = opened(probes=2)

    first, second = machine.admit(30.0), machine.admit(30.0)

    assert isinstance(first, Admitted)
    assert isinstance(second, Admitted)
    assert first.change is not None
    assert (first.change.old, first.change.new) == (State.OPEN, State.HALF_OPEN)
    assert second.change is None


def test_only_so_many_probes_are_out_at_once():
    """The next one is turned away, and nobody knows for how long."""
    machine = opened(probes=2)
    probes = [admitted(machine, 30.0) for _ in range(2)]
    turned_away = machine.admit(30.0)

    machine.record(probes[0], NEUTRAL, 31.0)

    assert turned_away == Rejected(None)
    assert isinstance(machine.admit(31.0), Admitted)


def test_so_many_successes_close_the_circuit():
    """With ``successes=2`` the first is not enough."""
    machine = opened(successes=2)
    feed(machine, SUCCESS, now=30.0)
    between = machine.state

    change = machine.record(admitted(machine, 30.0), SUCCESS, 30.0)

    assert between is State.HALF_OPEN
    assert change is not None
    assert (change.new, change.reason) == (State.CLOSED, "probes succeeded: 2")


def test_one_failed_probe_opens_the_circuit_again():
    """The open time begins when the probe failed."""
    machine = opened(successes=2)
    feed(machine, SUCCESS, now=30.0)

    change = machine.record(admitted(machine, 30.0), FAILURE, 40.0)

    assert change is not None
    assert (change.new, change.reason) == (State.OPEN, "a probe failed")
    assert machine.admit(40.0) == Rejected(30.0)


def test_a_probe_given_back_neither_heals_nor_opens():
    """The next call is a probe again."""
    machine = opened()

    feed(machine, NEUTRAL, now=30.0)

    assert machine.state is State.HALF_OPEN
    assert machine.probes_out == 0


@pytest.mark.parametrize("effect", list(BreakerEffect))
def test_a_result_of_an_earlier_state_changes_nothing(effect: BreakerEffect):
    """Neither the open nor the half-open circuit listens to calls that began before."""
    machine = machine_of(failures=1)
    late = [admitted(machine) for _ in range(3)]
    machine.record(late.pop(), FAILURE, 0.0)

    in_open = machine.record(late.pop(), effect, 1.0)
    wait = machine.admit(1.0)
    probe = admitted(machine, 30.0)
    in_half_open = machine.record(late.pop(), effect, 31.0)

    assert (in_open, in_half_open) == (None, None)
    assert wait == Rejected(29.0)
    assert machine.probes_out == 1
    assert machine.record(probe, SUCCESS, 32.0) is not None


def test_a_second_probe_that_comes_late_changes_nothing():
    """Another probe has closed the circuit already."""
    machine = opened(probes=2)
    first, second = admitted(machine, 30.0), admitted(machine, 30.0)
    machine.record(first, SUCCESS, 31.0)

    change = machine.record(second, FAILURE, 32.0)

    assert change is None
    assert (machine.state, machine.failures) == (State.CLOSED, 0)


def open_times(machine: BreakerMachine, times: int) -> list[float]:
    """Return how long the circuit stays open, each probe failing."""
    now, found = 0.0, []
    for _ in range(times):
        wait = machine.time_open(now)
        found.append(wait)
        now += wait
        feed(machine, FAILURE, now=now)
    return found


def test_the_open_time_stays_the_same_unless_it_is_told_to_grow():
    """What the reader reads is what happens."""
    assert open_times(opened(), 3) == [30, 30, 30]


def test_the_open_time_grows_with_each_failed_probe_up_to_its_limit():
    """Twice as long each time, five minutes at most."""
    machine = opened(recover_growth=2, max_recover_after=100)

    assert open_times(machine, 4) == [30, 60, 100, 100]


def test_growth_ends_at_ten_times_the_first_open_time():
    """The limit nobody set; the 10 000th open time is no overflow."""
    assert open_times(opened(recover_growth=1000), 10_000)[-1] == 300


def test_the_open_time_is_short_again_after_the_circuit_was_closed():
    """Growth is about one outage."""
    machine = opened(recover_growth=2)
    open_times(machine, 3)
    now = 1000.0
    feed(machine, SUCCESS, now=now)

    feed(machine, FAILURE, now=now)

    assert machine.time_open(now) == 30


@pytest.mark.parametrize("back_to", [99.0, 0.0, -1e9])
def test_a_clock_that_goes_back_delays_a_probe_by_one_open_time_at_most(back_to: float):
    """The circuit is not open for as long as the clock went back."""
    machine = opened(now=100.0)

    rejected = machine.admit(back_to)

    assert rejected == Rejected(30.0)
    assert isinstance(machine.admit(back_to + 30.0), Admitted)


def test_a_ratio_opens_the_circuit_once_the_minimum_of_calls_is_there():
    """Half of ten calls, not half of the first two."""
    machine = machine_of(failure_ratio=0.5, minimum_calls=10, window_calls=20)
    for _ in range(4):
        feed(machine, FAILURE)
        feed(machine, SUCCESS)
    feed(machine, SUCCESS)
    below = machine.state

    change = machine.record(admitted(machine), FAILURE, 0.0)

    assert below is State.CLOSED
    assert change is not None
    assert change.reason == "5 of 10 calls failed"


def test_a_success_never_opens_the_circuit():
    """Not even where it completes the minimum of calls."""
    machine = machine_of(failure_ratio=0.5, minimum_calls=10)

    feed(machine, FAILURE, 9)
    feed(machine, SUCCESS)

    assert machine.state is State.CLOSED


def test_with_a_ratio_failures_in_a_row_do_not_count_unless_asked():
    """``failures`` is on by itself only where nothing else is."""
    alone = machine_of(failure_ratio=1, minimum_calls=20)
    both = machine_of(failure_ratio=1, minimum_calls=20, failures=5)

    for machine in (alone, both):
        feed(machine, FAILURE, 5)

    assert (alone.state, both.state) == (State.CLOSED, State.OPEN)


@pytest.mark.parametrize(("failed", "calls"), [(7, 100), (29, 100), (57, 100), (1, 3), (3, 10)])
def test_a_ratio_is_reached_exactly(failed: int, calls: int):
    """Seven of a hundred are 0.07, whatever 0.07 * 100 may be."""
    machine = machine_of(failure_ratio=failed / calls, window_calls=calls, minimum_calls=calls)
    feed(machine, SUCCESS, calls - failed)

    feed(machine, FAILURE, failed - 1)
    below = machine.state
    feed(machine, FAILURE)

    assert (below, machine.state) == (State.CLOSED, State.OPEN)


def test_failures_leave_a_time_window():
    """Five failures a minute ago and five now are not ten."""
    machine = machine_of(failure_ratio=1, window_seconds=60, minimum_calls=10)
    feed(machine, FAILURE, 9, now=0.0)

    feed(machine, FAILURE, now=60.0)

    assert machine.state is State.CLOSED


def test_slow_calls_open_the_circuit():
    """A call is slow from ``slow_after`` on; a success can be slow."""
    machine = machine_of(slow_after=2, slow_ratio=0.5, minimum_calls=2)
    machine.record(admitted(machine, 0.0), SUCCESS, 1.9)

    change = machine.record(admitted(machine, 10.0), SUCCESS, 12.0)

    assert change is not None
    assert change.reason == "1 of 2 calls were slow"


def test_below_the_ratio_slow_calls_open_nothing():
    """One of three is less than half, though it failed as well."""
    machine = machine_of(slow_after=2, slow_ratio=0.5, minimum_calls=3)
    for began, took in [(100.0, 1.9), (200.0, 1.9)]:
        machine.record(admitted(machine, began), SUCCESS, began + took)

    machine.record(admitted(machine, 300.0), FAILURE, 302.0)

    assert machine.window is not None
    assert counts(machine.window) == (3, 1, 1)
    assert machine.state is State.CLOSED


def test_a_call_that_timed_out_is_slow():
    """Cut short, it took longer than it was seen to take."""
    machine = machine_of(slow_after=2, slow_ratio=0.5, minimum_calls=1)

    machine.record(admitted(machine), FAILURE, 0.5, math.inf)

    assert machine.state is State.OPEN


def test_a_slow_probe_opens_the_circuit_again():
    """Closing on it would open the circuit for being slow."""
    machine = machine_of(slow_after=2, slow_ratio=1, minimum_calls=1)
    machine.record(admitted(machine, 0.0), SUCCESS, 2.0)

    change = machine.record(admitted(machine, 32.0), SUCCESS, 35.0)

    assert change is not None
    assert (change.new, change.reason) == (State.OPEN, "a probe was slow")


def test_a_window_is_empty_after_the_circuit_was_open():
    """The failures of an outage do not open the circuit again."""
    machine = machine_of(failure_ratio=0.5, minimum_calls=4)
    feed(machine, FAILURE, 4)
    feed(machine, SUCCESS, now=30.0)

    feed(machine, FAILURE, now=30.0)

    assert machine.state is State.CLOSED


def test_opened_by_hand_it_stays_open_as_long_as_asked():
    """Without a number for ``recover_after``; opening again starts over without a new change."""
    machine = machine_of()

    change = machine.open(0.0, 5.0)
    first = machine.admit(1.0)
    again = machine.open(1.0)

    assert change is not None
    assert (first, again) == (Rejected(4.0), None)
    assert machine.admit(1.0) == Rejected(30.0)


def test_isolated_it_lets_nothing_through_until_it_is_closed():
    """No time ends it."""
    machine = machine_of()
    machine.isolate()

    rejected = machine.admit(1e12)
    change = machine.close()

    assert rejected == Rejected(None)
    assert change is not None
    assert (change.old, change.new) == (State.ISOLATED, State.CLOSED)


def test_closing_a_closed_circuit_keeps_its_counts_and_reset_does_not():
    """``reset`` also stops listening to the calls under way."""
    machine = machine_of()
    feed(machine, FAILURE, 4)
    under_way = admitted(machine)
    closed = machine.close()
    kept = machine.failures

    reset = machine.reset()
    machine.record(under_way, FAILURE, 0.0)

    assert (closed, kept, reset, machine.failures) == (None, 4, None, 0)


def test_forfeited_probes_come_back_and_their_results_are_ignored():
    """The loop in which they ran is gone."""
    machine = opened()
    lost = admitted(machine, 30.0)

    machine.forfeit()
    change = machine.record(lost, SUCCESS, 31.0)

    assert change is None
    assert isinstance(machine.admit(31.0), Admitted)
    assert machine.probes_out == 1


def test_what_a_closed_circuit_had_under_way_in_a_dead_loop_is_ignored():
    """What it counted before stays."""
    machine = machine_of()
    feed(machine, FAILURE, 3)
    lost = admitted(machine)

    machine.forfeit()
    machine.record(lost, FAILURE, 0.0)
    feed(machine, FAILURE)

    assert (machine.failures, machine.state) == (4, State.CLOSED)


class BreakerModel(RuleBasedStateMachine):
    """Any order of calls, outcomes, hands and clocks."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = machine_of(
            failures=3,
            failure_ratio=0.5,
            slow_after=5,
            slow_ratio=0.5,
            window_seconds=20,
            minimum_calls=4,
            recover_growth=2,
            probes=2,
            successes=2,
        )
        self.now = 0.0
        self.out: list[tuple[Admitted, State, int]] = []
        self.epoch = 0

    def moved(self, before: State, change: object) -> None:
        """Check that a change is told if and only if there was one."""
        after = self.machine.state
        assert (change is not None) == (after is not before)

    @rule(seconds=st.sampled_from([-1e6, -1.0, 0.0, 0.5, 6.0, 29.0, 31.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        """Move the clock, also back."""
        self.now += seconds

    @rule()
    def call(self) -> None:
        """Ask to be let in."""
        before = self.machine.state
        admission = self.machine.admit(self.now)
        if isinstance(admission, Admitted):
            self.moved(before, admission.change)
            assert self.machine.state in {State.CLOSED, State.HALF_OPEN}
            self.out.append((admission, self.machine.state, self.machine.generation))
        else:
            assert self.machine.state is before
            assert before is not State.CLOSED
            assert (admission.retry_after is not None) == (before is State.OPEN)
            assert 0 < (admission.retry_after or 1) <= 300

    @precondition(lambda self: self.out)
    @rule(data=st.data(), effect=st.sampled_from(BreakerEffect))
    def ends(self, data: st.DataObject, effect: BreakerEffect) -> None:
        """Let one of the calls under way end."""
        place = data.draw(st.integers(0, len(self.out) - 1))
        admission, _, generation = self.out.pop(place)
        before, current = self.machine.state, self.machine.generation
        change = self.machine.record(admission, effect, self.now)
        self.moved(before, change)
        if generation != current or effect is NEUTRAL:
            assert self.machine.state is before

    @rule(hand=st.sampled_from(["open", "isolate", "close", "reset", "forfeit"]))
    def by_hand(self, hand: str) -> None:
        """Use one of the hands."""
        before = self.machine.state
        if hand == "open":
            self.moved(before, self.machine.open(self.now))
        elif hand == "forfeit":
            self.machine.forfeit()
        else:
            self.moved(before, getattr(self.machine, hand)())

    @invariant()
    def probes_are_bounded_and_counted(self) -> None:
        """Those out are those of the present generation, and never more than allowed."""
        machine = self.machine
        mine = sum(1 for *_, g in self.out if g == machine.generation)
        if machine.state is State.HALF_OPEN:
            assert machine.probes_out == mine <= 2
        else:
            assert machine.probes_out == 0

    @invariant()
    def closed_means_below_every_limit(self) -> None:
        """The counts of a closed circuit never lie."""
        machine = self.machine
        assert machine.window is not None
        window = machine.window
        assert 0 <= window.failed <= window.calls
        assert 0 <= window.slow <= window.calls
        if machine.state is State.CLOSED:
            assert machine.failures < 3
        else:
            assert window.calls == 0


TestBreakerModel = BreakerModel.TestCase
TestBreakerModel.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


# --- against pybreaker -----------------------------------------------------------------------

STEPS = st.one_of(
    st.sampled_from(["success", "failure"]),
    st.sampled_from(["open", "reset"]),
    st.integers(1, 9).map(lambda tens: tens * 10.0),
)


class TheirClock:
    """A pybreaker breaker in a time of its own: its past is moved in place of its present."""

    def __init__(self, fail_max: int, successes: int) -> None:
        self.storage = pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
        self.breaker = pybreaker.CircuitBreaker(
            fail_max, 35, success_threshold=successes, state_storage=self.storage
        )

    def passes(self, seconds: float) -> None:
        """Make it that much later."""
        if self.storage.opened_at is not None:
            self.storage.opened_at -= timedelta(seconds=seconds)

    def call(self, *, fails: bool) -> bool:
        """Make a call; return True when it was let in."""
        started = False

        def operation() -> None:
            nonlocal started
            started = True
            if fails:
                raise OSError

        # It says with the second that this failure has opened the circuit.
        with contextlib.suppress(OSError, pybreaker.CircuitBreakerError):
            self.breaker.call(operation)
        return started


@given(
    steps=st.lists(STEPS, max_size=40),
    fail_max=st.integers(1, 4),
    successes=st.integers(1, 3),
)
@settings(deadline=None)
def test_one_call_at_a_time_the_machine_and_pybreaker_agree(
    steps: list[str | float], fail_max: int, successes: int
):
    """Same admissions, same states, after every step of any sequence.

    Where calls overlap they differ on purpose: pybreaker lets every call that comes during a trial
    through, lets late results move the new state, and counts a cancellation as a failure. Their
    excluded exceptions are successes; what is not listed is neutral here. Both are left out here.
    """
    theirs = TheirClock(fail_max, successes)
    ours = machine_of(failures=fail_max, recover_after=35, successes=successes)
    now = 0.0

    for step in steps:
        if isinstance(step, float):
            now += step
            theirs.passes(step)
        elif step == "open":
            ours.open(now)
            theirs.breaker.open()
        elif step == "reset":
            ours.reset()
            theirs.breaker.close()
        else:
            admission = ours.admit(now)
            started = theirs.call(fails=step == "failure")
            assert isinstance(admission, Admitted) is started
            if isinstance(admission, Admitted):
                ours.record(admission, FAILURE if step == "failure" else SUCCESS, now)
        assert ours.state.value == theirs.breaker.current_state.replace("-", "_")
        if ours.state is State.CLOSED:
            assert ours.failures == theirs.breaker.fail_counter


# --- stage -----------------------------------------------------------------------------------


class Hold:
    """An operation that goes on until it is told how to end."""

    def __init__(self) -> None:
        self.ends: list[asyncio.Future[str]] = []

    async def __call__(self) -> str:
        """Wait for the end."""
        end = asyncio.get_running_loop().create_future()
        self.ends.append(end)
        return await end


def guarded(log: EventLog | None = None, **options: Any) -> tuple[Policy, Breaker]:
    """Return a policy of one breaker, and the breaker."""
    breaker = Breaker(BreakerOptions(**options))
    observers = [] if log is None else [log]
    return Policy("search", observers=observers).with_stage(breaker), breaker


async def fail(policy: Policy, times: int = 1, error: type[BaseException] = OSError) -> None:
    """Make calls that fail, one after another."""
    for _ in range(times):
        with pytest.raises(error):
            await policy.call(scripted(error))


async def test_an_open_circuit_refuses_without_calling():
    """The error says which circuit, and when to come back."""
    policy, breaker = guarded(failures=2)
    operation = scripted()
    await fail(policy, 2)

    with pytest.raises(CircuitOpenError) as caught:
        await policy.call(operation)

    assert operation.calls == []
    assert breaker.state == "open"
    assert caught.value.retry_after == pytest.approx(30, abs=1)
    assert str(caught.value).startswith("circuit 'search' is open; retry after ")


@pytest.mark.virtual_time
async def test_the_message_gives_the_time_that_is_left():
    """To the millisecond, without zeros nobody needs; the label stands for the policy's name."""
    policy, _ = guarded(failures=1, label="index")
    await fail(policy)
    await asyncio.sleep(17.5)

    with pytest.raises(CircuitOpenError, match=r"^circuit 'index' is open; retry after 12\.5 s$"):
        await policy.call(scripted())


@pytest.mark.virtual_time
async def test_a_trial_after_the_open_time_closes_the_circuit_or_opens_it_again():
    """Five failures, a failed probe, two good ones."""
    policy, breaker = guarded(failures=5, successes=2)
    await fail(policy, 5)

    await asyncio.sleep(30)
    await fail(policy)
    reopened = breaker.state
    await asyncio.sleep(30)
    first = await policy.call(scripted("one"))
    between = breaker.state
    second = await policy.call(scripted("two"))

    assert (reopened, between, breaker.state) == ("open", "half_open", "closed")
    assert (first, second) == ("one", "two")


@pytest.mark.virtual_time
async def test_of_many_calls_after_the_open_time_one_is_the_probe():
    """The others are refused until it has ended."""
    policy, _ = guarded(failures=1)
    operation = scripted(then=takes(1, "fine"))
    await fail(policy)
    await asyncio.sleep(30)

    results = await asyncio.gather(
        *(policy.call(operation) for _ in range(10)), return_exceptions=True
    )

    refused = [r for r in results if isinstance(r, CircuitOpenError)]
    assert len(operation.calls) == 1
    assert len(refused) == 9
    assert {r.retry_after for r in refused} == {None}
    assert "half-open and its probes are under way" in str(refused[0])


@pytest.mark.parametrize(
    ("failure", "counts"),
    [
        (OSError, True),
        (TimeoutError, True),
        (RuntimeError, True),
        (CooldownResource, False),
        (ValueError, False),
        (asyncio.CancelledError, False),
        (KeyError, False),
        (type("Exit", (BaseException,), {}), False),
    ],
)
async def test_without_a_filter_the_verdict_table_decides(
    failure: type[BaseException], counts: object
):
    """What blames the caller or a resource says nothing of the service."""
    policy, breaker = guarded(failures=1)

    await fail(policy, error=failure)

    assert (breaker.state == "open") is counts


@pytest.mark.parametrize(
    "failure_on",
    [
        KeyError,
        "caller_bug",
        VerdictKind.CALLER_BUG,
        [OSError, KeyError],
        lambda failure: isinstance(failure, KeyError),
    ],
)
async def test_with_a_filter_only_what_it_lists_counts(failure_on: Any):
    """The rest is neutral: it neither counts nor starts the row anew."""
    policy, breaker = guarded(failures=2, failure_on=failure_on)

    await fail(policy, error=KeyError)
    await fail(policy, 3, error=RuntimeError)
    before = breaker.snapshot()["failures"]
    await fail(policy, error=KeyError)

    assert (before, breaker.state) == (1, "open")


async def test_a_filter_that_raises_does_not_hide_the_failure(
    caplog: pytest.LogCaptureFixture,
):
    """The caller gets its own error; the filter's is logged and seen by observers."""
    log = EventLog()
    policy, breaker = guarded(log, failures=1, failure_on=lambda failure: failure.missing)

    await fail(policy)

    assert breaker.state == "closed"
    assert log.only(HookFailed).hook == "failure_on"
    assert "circuit 'search': failure_on raised" in caplog.text


async def test_the_last_failure_reaches_the_caller_as_it_is():
    """Opening the circuit replaces nothing."""
    policy, _ = guarded(failures=1)
    error = OSError("refused")

    with pytest.raises(OSError, match="refused") as caught:
        await policy.call(scripted(error))

    assert caught.value is error


@pytest.mark.virtual_time
async def test_a_call_that_began_before_the_circuit_opened_does_not_move_it():
    """A late success does not close it, a late failure does not prolong it."""
    policy, breaker = guarded(failures=1)
    hold = Hold()
    late = [asyncio.ensure_future(policy.call(hold)) for _ in range(2)]
    await asyncio.sleep(0)
    await fail(policy)
    await asyncio.sleep(10)

    hold.ends[0].set_result("fine")
    hold.ends[1].set_exception(OSError())
    await asyncio.gather(*late, return_exceptions=True)

    assert breaker.snapshot()["state"] == "open"
    assert breaker.snapshot()["retry_after"] == 20


@pytest.mark.virtual_time
async def test_a_cancelled_probe_goes_back():
    """The circuit is neither healed nor stuck: the next call is the probe."""
    policy, breaker = guarded(failures=1)
    await fail(policy)
    await asyncio.sleep(30)
    probe = asyncio.ensure_future(policy.call(Hold()))
    await asyncio.sleep(1)

    probe.cancel()
    await asyncio.wait([probe])
    state = breaker.state
    result = await policy.call(scripted("fine"))

    assert (state, result, breaker.state) == ("half_open", "fine", "closed")


def test_a_cancel_at_any_point_gives_the_probe_back():
    """No probe is out when all calls have ended, and one call later the circuit is closed."""

    async def scenario(sweep: Sweep) -> tuple[Policy, Breaker]:
        policy, breaker = guarded(failures=1)
        await fail(policy)
        await asyncio.sleep(30)

        async def victim() -> None:
            await policy.call(scripted(takes(1, "fine")))

        async def beside() -> None:
            await asyncio.gather(policy.call(scripted("fine")), return_exceptions=True)

        sweep.victim(victim())
        sweep.beside(beside())
        return policy, breaker

    async def check(found: tuple[Policy, Breaker]) -> None:
        policy, breaker = found
        assert breaker.snapshot()["probes_out"] == 0
        await policy.call(scripted("fine"))
        assert breaker.state == "closed"

    assert cancel_sweep(scenario, check) > 3


@pytest.mark.virtual_time
async def test_an_abandoned_probe_goes_back():
    """A coroutine that is closed, or collected, ends with GeneratorExit."""
    policy, breaker = guarded(failures=1)
    await fail(policy)
    await asyncio.sleep(30)
    probe = policy.call(Hold())
    probe.send(None)
    out = breaker.snapshot()["probes_out"]

    probe.close()

    assert (out, breaker.snapshot()["probes_out"]) == (1, 0)


def test_a_probe_that_died_with_its_loop_goes_back():
    """A module-level policy survives many loops."""
    policy, breaker = guarded(failures=1)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(fail(policy))
    breaker.open(1e-6)
    probe = loop.create_task(policy.call(Hold()))
    loop.run_until_complete(asyncio.sleep(0.01))
    out = breaker.snapshot()["probes_out"]
    loop.close()

    result = asyncio.run(policy.call(scripted("fine")))

    assert (out, result, breaker.state) == (1, "fine", "closed")
    probe.get_coro().close()
    # What asyncio would say of the task that was left is not about this.
    probe._log_destroy_pending = False


def test_two_loops_at_once_are_refused():
    """The error says what to do."""
    policy, _ = guarded()
    entered, leave = threading.Event(), threading.Event()

    async def stay() -> None:
        await policy.call(scripted("fine"))
        entered.set()
        await asyncio.to_thread(leave.wait)

    thread = threading.Thread(target=asyncio.run, args=(stay(),))
    thread.start()
    entered.wait()
    try:
        with pytest.raises(PolicyError, match="another running event loop"):
            asyncio.run(policy.call(scripted("fine")))
    finally:
        leave.set()
        thread.join()


@pytest.mark.virtual_time
async def test_a_ratio_over_seconds_forgets_what_is_old():
    """The snapshot shows what the window holds now."""
    policy, breaker = guarded(failure_ratio=0.5, window_seconds=10, minimum_calls=4)
    await fail(policy, 3)
    await policy.call(scripted("fine"))
    before = breaker.snapshot()["window"]

    await asyncio.sleep(11)

    assert before == {"calls": 4, "failed": 3, "slow": 0}
    assert breaker.snapshot()["window"] == {"calls": 0, "failed": 0, "slow": 0}


@pytest.mark.virtual_time
async def test_slow_calls_open_the_circuit_though_they_succeed():
    """Two of two took two seconds."""
    log = EventLog()
    policy, breaker = guarded(log, slow_after=2, slow_ratio=1, minimum_calls=2)

    for _ in range(2):
        await policy.call(scripted(takes(2, "fine")))

    assert breaker.state == "open"
    assert log.only(CircuitChanged).reason == "2 of 2 calls were slow"


@pytest.mark.virtual_time
async def test_a_timeout_further_in_is_a_slow_failure():
    """Though it was cut short before it could be slow."""
    breaker = Breaker(BreakerOptions(slow_after=60, slow_ratio=1, minimum_calls=1))
    policy = Policy("search").with_stage(breaker).with_timeout(1)

    await fail_with(policy, TimeoutError, takes(5))

    assert breaker.state == "open"


async def fail_with(policy: Policy, error: type[BaseException], outcome: object) -> None:
    """Make a call that ends with this error."""
    with pytest.raises(error):
        await policy.call(scripted(outcome))


@pytest.mark.virtual_time
async def test_observers_see_every_change_and_every_rejection():
    """In order, with the request id of the call that brought it about."""
    log = EventLog()
    policy, _ = guarded(log, failures=1)
    mine = policy.using(request_id="r1")
    await fail(mine)
    await fail_with(mine, CircuitOpenError, "never")
    await asyncio.sleep(30)
    await mine.call(scripted("fine"))

    changes = [(e.breaker, e.old, e.new, e.request_id) for e in log.of(CircuitChanged)]

    assert changes == [
        ("search", "closed", "open", "r1"),
        ("search", "open", "half_open", "r1"),
        ("search", "half_open", "closed", "r1"),
    ]
    rejected = log.only(CallRejected)
    assert (rejected.stage, rejected.error_type) == ("breaker", "CircuitOpenError")
    assert rejected.retry_after == 30


async def test_a_breaker_can_be_moved_by_hand():
    """Open, isolated, closed, reset; hook and observers hear of it outside of any call."""
    log, told = EventLog(), []
    policy, breaker = guarded(log, on_state_change=lambda old, new: told.append((old, new)))
    await policy.call(scripted("fine"))

    breaker.open(seconds=60)
    breaker.isolate()
    with pytest.raises(CircuitOpenError, match="isolated by hand") as caught:
        await policy.call(scripted("never"))
    breaker.close()
    breaker.close()
    breaker.reset()

    assert caught.value.retry_after is None
    assert told == [("closed", "open"), ("open", "isolated"), ("isolated", "closed")]
    assert [(e.old, e.new) for e in log.of(CircuitChanged)] == told
    assert await policy.call(scripted("again")) == "again"


async def test_a_reset_admits_calls_at_once():
    """And forgets the failures before it."""
    policy, breaker = guarded(failures=2)
    await fail(policy, 2)

    breaker.reset()
    await fail(policy)

    assert breaker.state == "closed"


@pytest.mark.parametrize("seconds", [0, -1, math.nan, "5"])
def test_opening_by_hand_takes_a_number_above_0(seconds: Any):
    """As every option does."""
    _, breaker = guarded()

    with pytest.raises(ConfigError, match="'seconds' must be a finite number"):
        breaker.open(seconds)


def test_a_breaker_that_has_met_no_policy_can_be_moved_by_hand():
    """Nobody is there yet to be told."""
    _, breaker = guarded()

    breaker.isolate()

    assert breaker.state == "isolated"


@pytest.mark.virtual_time
async def test_the_hook_is_told_once_per_change_with_both_states():
    """Closed, open, half-open, closed."""
    told: list[tuple[str, str]] = []
    policy, _ = guarded(failures=1, on_state_change=lambda old, new: told.append((old, new)))

    await fail(policy)
    await fail_with(policy, CircuitOpenError, "never")
    await asyncio.sleep(30)
    await policy.call(scripted("fine"))

    assert told == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_a_hook_that_raises_changes_nothing_for_the_caller(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
):
    """The failure reaches the caller, the circuit is open, the hook's error is logged once."""
    log = EventLog()
    caplog.set_level(logging.ERROR)

    def hook(_old: str, _new: str) -> None:
        raise error

    policy, breaker = guarded(log, failures=1, on_state_change=hook)

    await fail(policy)

    assert breaker.state == "open"
    failed = log.only(HookFailed)
    assert (failed.hook, failed.error_type) == ("on_state_change", error.__name__)
    assert [r.levelno for r in caplog.records] == [logging.ERROR]


async def test_a_hook_may_call_back_in():
    """It sees the new state, and may change it again."""
    seen: list[str] = []

    def hook(_old: str, _new: str) -> None:
        seen.append(breaker.state)
        if breaker.state == "open":
            breaker.close()

    policy, breaker = guarded(failures=1, on_state_change=hook)

    await fail(policy)

    assert (seen, breaker.state) == (["open", "closed"], "closed")


async def test_an_async_hook_is_not_awaited():
    """The caller goes on while the hook takes its time, and the task is kept until it ends."""
    go, told = asyncio.Event(), []

    async def hook(old: str, new: str) -> None:
        await go.wait()
        told.append((old, new))

    policy, _ = guarded(failures=1, on_state_change=hook)

    await fail(policy)
    before = list(told)
    go.set()
    await asyncio.sleep(0.01)

    assert (before, told) == ([], [("closed", "open")])


async def test_an_async_hook_that_raises_is_reported():
    """As a sync one is; one that is cancelled is not."""
    log = EventLog()

    async def hook(_old: str, new: str) -> None:
        raise asyncio.CancelledError if new == "closed" else RuntimeError

    policy, breaker = guarded(log, failures=1, on_state_change=hook)

    await fail(policy)
    breaker.close()
    await asyncio.sleep(0.01)

    assert log.only(HookFailed).error_type == "RuntimeError"


def test_an_async_hook_without_a_loop_is_reported(caplog: pytest.LogCaptureFixture):
    """A state changed by hand from plain code changes all the same."""

    async def hook(_old: str, _new: str) -> None: ...

    _, breaker = guarded(on_state_change=hook)

    breaker.isolate()

    assert breaker.state == "isolated"
    assert "an async hook needs a running event loop" in caplog.text


async def test_an_awaitable_hook_without_a_loop_is_left_alone(caplog: pytest.LogCaptureFixture):
    """Only a coroutine has to be closed."""
    future = asyncio.get_running_loop().create_future()
    _, breaker = guarded(on_state_change=lambda _old, _new: future)

    await asyncio.to_thread(breaker.isolate)

    assert not future.done()
    assert "an async hook needs a running event loop" in caplog.text


async def test_fresh_gives_new_state():
    """The options stay, the circuit is closed."""
    policy, breaker = guarded(failures=1)
    await fail(policy)

    twin = breaker.fresh()

    assert (breaker.state, twin.state) == ("open", "closed")
    assert twin.options is breaker.options


@pytest.mark.virtual_time
async def test_the_snapshot_is_plain_data():
    """JSON can hold it, in every state."""
    policy, breaker = guarded(failures=2)
    await fail(policy)
    closed = breaker.snapshot()
    await fail(policy)

    opened_ = breaker.snapshot()

    assert json.loads(json.dumps(closed)) == {
        "stage": "breaker",
        "state": "closed",
        "failures": 1,
        "probes_out": 0,
        "retry_after": None,
    }
    assert (opened_["state"], opened_["retry_after"]) == ("open", 30)


@pytest.mark.parametrize(
    ("options", "reads"),
    [
        ({}, 0),
        ({"failure_ratio": 0.5}, 0),
        ({"failure_ratio": 0.5, "window_seconds": 10}, 1),
        ({"slow_after": 1, "slow_ratio": 0.5}, 2),
    ],
)
def test_the_clock_is_read_only_where_time_matters(options: dict[str, Any], reads: int):
    """A success of a closed circuit costs no look at the clock without need."""
    policy, _ = guarded(**options)
    looks: list[float] = []

    async def act() -> int:
        await policy.call(scripted("fine"))
        operation = scripted("fine")
        source = clock.now

        def watched() -> float:
            looks.append(source())
            return looks[-1]

        with clock.replaced_by(watched):
            await policy.call(operation)
        return len(looks)

    # The scripted operation itself looks once.
    assert run(act()) - 1 == reads
