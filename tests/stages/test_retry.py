from __future__ import annotations

import asyncio
import gc
import logging
import math
import weakref
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from penstock import clock
from penstock.errors import (
    CallTimeoutError,
    CircuitOpenError,
    ConcurrencyLimitedError,
    ConfigError,
    InvalidResultError,
    RateLimitedError,
)
from penstock.events import HookFailed, RetryScheduled, RetryStopped, WaitEnded
from penstock.policy import Policy
from penstock.stages.retry import Constant, Decorrelated, Exponential, Retry, RetryOptions
from penstock.stages.retry.machine import LONGEST_WAIT, Delay, Reason, RetryRun, Stop, is_retried
from penstock.testing import EventLog, cancel_sweep, scripted, takes
from penstock.verdict import (
    CooldownResource,
    DisableResource,
    TryAgain,
    Verdict,
    VerdictKind,
)

pytestmark = pytest.mark.virtual_time

TRANSIENT = Verdict(VerdictKind.TRANSIENT)


def run_of(attempts=3, waits=lambda _: 1.0, stops=None, max_server_delay=120.0):
    """Return a machine whose call began in second 100."""
    return RetryRun(attempts, waits, stops, max_server_delay, began=100.0)


def decide(run, verdict=TRANSIENT, now=100.0, deadline=None, *, ready_in=None):
    """Ask the machine, with everything that does not matter filled in."""
    return run.decide(verdict, now, deadline, ready_in=ready_in)


# ---- the machine


@pytest.mark.parametrize("attempt", [1, 2, 3, 4])
def test_attempts_are_calls_in_total(attempt):
    """Three attempts allow a delay after the first and the second."""
    run = run_of(attempts=3)
    run.attempt = attempt

    expected = Delay(1.0) if attempt < 3 else Stop(Reason.ATTEMPTS_SPENT)
    assert decide(run) == expected


def test_without_a_bound_there_is_no_last_attempt():
    """The ten-thousandth attempt is followed by another."""
    run = run_of(attempts=None)
    run.attempt = 10_000

    assert decide(run) == Delay(1.0)


def test_own_back_off_is_asked_with_the_number_of_the_failed_attempt():
    """From 1, as everywhere."""
    run = run_of(attempts=10, waits=float)
    run.attempt = 7

    assert decide(run) == Delay(7.0)


@pytest.mark.parametrize(
    ("wait", "delay"), [(math.nan, 0.0), (-3.0, 0.0), (math.inf, LONGEST_WAIT), (0, 0.0)]
)
def test_a_wait_is_clamped_to_what_can_be_slept(wait, delay):
    """Whatever a user's function returns, the delay is finite and at least 0."""
    assert decide(run_of(waits=lambda _: wait)) == Delay(delay)


@pytest.mark.parametrize(
    ("hint", "decision"),
    [
        (None, Delay(1.0)),
        (0.0, Delay(1.0)),
        (0.5, Delay(1.0)),
        (30.0, Delay(30.0)),
        (120.0, Delay(120.0)),
        (120.1, Stop(Reason.HINT_TOO_LONG)),
    ],
)
@pytest.mark.parametrize("kind", [VerdictKind.RATE_LIMITED, VerdictKind.TRANSIENT])
def test_a_hint_lengthens_and_never_shortens(kind, hint, decision):
    """Up to `max_server_delay` the longer of the two is waited; above it nothing is."""
    assert decide(run_of(), Verdict(kind, retry_after=hint)) == decision


def test_another_resource_is_tried_at_once():
    """Neither this server's hint nor our back-off concerns the next one."""
    verdict = Verdict(VerdictKind.RATE_LIMITED, retry_after=500.0)

    assert decide(run_of(), verdict, ready_in=0.0) == Delay(0.0)


@pytest.mark.parametrize(
    ("deadline", "decision"),
    [
        (101.1, Delay(1.0)),
        (101.0, Stop(Reason.DEADLINE)),
        (100.0, Stop(Reason.DEADLINE)),
        (99.0, Stop(Reason.DEADLINE)),
    ],
)
def test_a_wait_that_cannot_end_before_the_deadline_is_not_begun(deadline, decision):
    """Ending with the deadline is too late as well: no attempt could follow."""
    assert decide(run_of(), deadline=deadline) == decision


def test_stops_is_asked_with_attempt_elapsed_time_and_coming_delay():
    """So that it can price the wait as the deadline does."""
    asked = []
    run = run_of(stops=lambda *facts: bool(asked.append(facts)))

    decide(run, now=103.5)

    assert asked == [(1, 3.5, 1.0)]
    assert decide(run_of(stops=lambda *_: True)) == Stop(Reason.TIME_SPENT)


@pytest.mark.parametrize(
    ("kind", "alone", "rotating"),
    [
        (VerdictKind.OK, False, False),
        (VerdictKind.RATE_LIMITED, True, True),
        (VerdictKind.QUOTA_EXHAUSTED, True, True),
        (VerdictKind.AUTH, False, True),
        (VerdictKind.OVERLOADED, True, True),
        (VerdictKind.TRANSIENT, True, True),
        (VerdictKind.TIMEOUT, True, True),
        (VerdictKind.CALLER_BUG, False, False),
        (VerdictKind.CANCELLED, False, False),
        (VerdictKind.UNKNOWN, True, True),
    ],
)
def test_the_verdict_table_says_what_is_retried(kind, alone, rotating):
    """Bad credentials are tried again only where there are others."""
    assert is_retried(Verdict(kind), rotates=False) is alone
    assert is_retried(Verdict(kind), rotates=True) is rotating


class RetryRules(RuleBasedStateMachine):
    """A call that goes on failing, in any way, at any time."""

    @initialize(
        attempts=st.none() | st.integers(1, 6),
        wait=st.floats(allow_nan=True),
        left=st.none() | st.floats(0, 300),
        total=st.none() | st.floats(0, 300),
    )
    def begin(self, attempts, wait, left, total):
        """Start a call."""
        stops = None if total is None else lambda _, elapsed, delay: elapsed + delay >= total
        self.run = RetryRun(attempts, lambda _: wait, stops, 60.0, began=0.0)
        self.attempts, self.left, self.total = attempts, left, total
        self.now, self.is_over = 0.0, False

    @rule(
        took=st.floats(0, 10),
        hint=st.none() | st.floats(0, 100),
        kind=st.sampled_from(VerdictKind),
        ready_in=st.none() | st.floats(0, 100),
    )
    def fail(self, took, hint, kind, ready_in):
        """Fail once more, unless it is over, and do what the machine says."""
        if self.is_over:
            return
        self.now += took
        decision = self.run.decide(
            Verdict(kind, retry_after=hint), self.now, self.left, ready_in=ready_in
        )
        if isinstance(decision, Stop):
            self.is_over = True
            return
        delay = decision.seconds
        assert 0 <= delay <= LONGEST_WAIT
        asked = (hint or 0) if ready_in is None else ready_in
        assert delay >= asked
        assert asked <= 60
        self.now += delay
        self.run.attempt += 1
        assert self.attempts is None or self.run.attempt <= self.attempts
        assert self.left is None or self.now < self.left
        assert self.total is None or self.now < self.total


TestRetryRules = RetryRules.TestCase
TestRetryRules.settings = settings(deadline=None)


# ---- the options


def test_attempts_are_three_unless_something_is_said():
    """With `stop` alone their number is unbounded."""
    assert RetryOptions().attempts == 3
    assert RetryOptions(stop=60).attempts is None
    assert RetryOptions(stop=60, attempts=5).attempts == 5
    assert RetryOptions(wait=timedelta(seconds=2), stop=timedelta(minutes=1)).stop == 60


async def asynchronous(*args):
    """Be a coroutine function where a plain one is wanted."""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attempts", 0),
        ("attempts", -1),
        ("attempts", 2.5),
        ("attempts", True),
        ("attempts", math.nan),
        ("wait", -1),
        ("wait", math.nan),
        ("wait", math.inf),
        ("wait", "1s"),
        ("wait", Exponential),
        ("wait", asynchronous),
        ("retry_on", 503),
        ("retry_on", ()),
        ("retry_on", "sometimes"),
        ("retry_on", int),
        ("accept", ()),
        ("accept", 3),
        ("accept", (len, 3)),
        ("stop", 0),
        ("stop", -1),
        ("stop", math.nan),
        ("stop", asynchronous),
        ("on_retry", "print"),
        ("before_sleep", 3),
        ("max_server_delay", -1),
        ("max_server_delay", math.inf),
    ],
)
def test_bad_options_are_refused_when_they_are_built(field, value):
    """The error names the field, the value and what is allowed."""
    with pytest.raises(ConfigError, match=rf"retry: '{field}' must be ") as caught:
        RetryOptions(**{field: value})

    assert str(caught.value).endswith(f"; got {value!r}")


# ---- the stage


class JudgedError(Exception):
    """A failure that carries its own verdict."""

    def __init__(self, kind=VerdictKind.TRANSIENT, retry_after=None):
        super().__init__(kind.value)
        self.verdict = Verdict(kind, retry_after)


def policy_of(log=None, **options):
    """Return a policy of one retry stage that waits 1 s, if nothing else is said."""
    policy = Policy(
        "p",
        classify=lambda failure: getattr(failure, "verdict", None),
        observers=() if log is None else (log,),
    )
    return policy.with_retry(**{"wait": 1, **options})


async def outcome_of(call):
    """Await a call; return its failure (or its result) and how long it took."""
    began = clock.now()
    try:
        outcome = await call
    except Exception as failure:  # noqa: BLE001 - it is looked at
        outcome = failure
    return outcome, clock.now() - began


async def test_a_good_result_is_returned_as_it_is():
    """One call, no pause."""
    result = object()
    operation = scripted(result)

    outcome, seconds = await outcome_of(policy_of().call(operation))

    assert outcome is result
    assert (len(operation.times), seconds) == (1, 0)


@pytest.mark.parametrize("attempts", [1, 2, 3, 7])
async def test_the_last_failure_is_raised_as_it_is(attempts):
    """The same object, after exactly so many calls, with a note and no context."""
    failures = [ConnectionError(f"number {n}") for n in range(attempts)]
    operation = scripted(*failures)

    outcome, seconds = await outcome_of(policy_of(attempts=attempts).call(operation))

    assert outcome is failures[-1]
    assert len(operation.times) == attempts
    assert seconds == attempts - 1
    assert outcome.__cause__ is outcome.__context__ is None
    plural = "" if attempts == 1 else "s"
    story = f"{attempts} attempt{plural} in {seconds:.3f} s: attempts spent"
    assert outcome.__notes__ == [f"penstock: gave up after {story}"]


async def test_back_off_is_called_with_one_two_three_and_slept():
    """A plain function of the attempt is a wait."""
    asked = []

    def wait(attempt):
        asked.append(attempt)
        return attempt * 10

    operation = scripted(OSError, OSError, OSError, "ok")

    await policy_of(attempts=4, wait=wait).call(operation)

    assert asked == [1, 2, 3]
    assert operation.times == [0, 10, 30, 60]


@pytest.mark.parametrize("kind", VerdictKind)
async def test_failures_are_retried_by_their_verdict(kind):
    """Without `retry_on` the table decides, whatever the exception's type."""
    operation = scripted(then=JudgedError(kind))

    await outcome_of(policy_of().call(operation))

    assert len(operation.times) == (3 if is_retried(Verdict(kind), rotates=False) else 1)


@pytest.mark.parametrize(
    ("retry_on", "failure", "calls"),
    [
        (OSError, ConnectionError(), 3),
        (OSError, LookupError(), 1),
        (ValueError, ValueError(), 3),
        ((OSError, LookupError), KeyError(), 3),
        ("auth", JudgedError(VerdictKind.AUTH), 3),
        ({"timeout", OSError}, JudgedError(), 1),
        (lambda failure: "now" in str(failure), OSError("not now"), 3),
        (lambda failure: "now" in str(failure), OSError("never"), 1),
        (OSError, TryAgain(), 3),
        (Exception, JudgedError(VerdictKind.CANCELLED), 1),
    ],
    ids=range(10),
)
async def test_retry_on_replaces_the_table(retry_on, failure, calls):
    """Only `TryAgain`, which asks by name, and a cancelled call, which cannot, go past it."""
    operation = scripted(then=failure)

    outcome, _ = await outcome_of(policy_of(retry_on=retry_on).call(operation))

    assert outcome is failure
    assert len(operation.times) == calls


async def test_an_unlisted_failure_is_raised_untouched():
    """One call, the same object, not even a note."""
    failure = ValueError("mine")

    outcome, _ = await outcome_of(policy_of(retry_on=OSError).call(scripted(failure)))

    assert outcome is failure
    assert not hasattr(failure, "__notes__")


async def test_async_predicates_are_awaited():
    """And may take their time."""

    async def passes(failure):
        await asyncio.sleep(5)
        return "soft" in str(failure)

    soft, hard = scripted(OSError("soft"), "ok"), scripted(OSError("hard"))
    policy = policy_of(retry_on=passes)

    assert await outcome_of(policy.call(soft)) == ("ok", 6)
    outcome, _ = await outcome_of(policy.call(hard))
    assert str(outcome) == "hard"


async def test_a_predicate_that_raises_changes_nothing_for_the_caller(caplog):
    """The operation's failure comes out; the predicate's is logged and told."""
    log = EventLog()
    failure = OSError("real")

    def broken(_):
        raise KeyError("mine")

    outcome, _ = await outcome_of(policy_of(log, retry_on=broken).call(scripted(failure)))

    assert outcome is failure
    assert failure.__context__ is None
    assert "one of its own rules raised" in failure.__notes__[0]
    assert log.only(HookFailed).error_type == "KeyError"
    assert [record.message for record in caplog.records] == ["policy 'p': retry rule raised"]


async def test_a_wait_function_that_raises_changes_nothing_for_the_caller(caplog):
    """As above, for the other rule that users write."""
    failure = OSError("real")
    policy = policy_of(wait=lambda attempt: 1 / (attempt - 1))

    outcome, _ = await outcome_of(policy.call(scripted(failure)))

    assert outcome is failure
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "signal", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit]
)
async def test_what_is_no_exception_is_never_retried(signal):
    """An operation that raises it by itself ends its own call."""
    operation = scripted(then=signal)
    handler = Retry(RetryOptions(wait=0, retry_on=lambda _: True))

    with pytest.raises(signal):
        await handler(SimpleNamespace(attempts_inside=False, fn=operation), lambda _: operation())

    assert len(operation.times) == 1


async def test_a_caller_that_is_cancelled_in_the_back_off_ends_cancelled():
    """And the operation never runs again."""
    operation = scripted(then=OSError)
    task = asyncio.create_task(policy_of(wait=60).call(operation))
    await asyncio.sleep(30)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(120)

    assert len(operation.times) == 1


def test_cancelling_anywhere_loses_no_permit():
    """Retry round concurrency: whatever the point, all permits are back."""

    async def scenario(sweep):
        policy = policy_of().with_concurrency(1)
        sweep.victim(policy.call(scripted(takes(1, OSError), takes(1, "ok"))))
        sweep.beside(policy.call(scripted(takes(1, OSError), takes(1, "ok"))))
        return policy

    def check(policy):
        assert policy.stages[1].snapshot()["in_flight"] == 0

    assert cancel_sweep(scenario, check) > 5


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "7.5"}, 7.5),
        ({"retry-after-ms": "2500"}, 2.5),
        (
            {
                "Retry-After": "Wed, 21 Oct 2015 07:28:09 GMT",
                "Date": "Wed, 21 Oct 2015 07:28:00 GMT",
            },
            9,
        ),
        ({"Retry-After": "0"}, 1),
        ({"Retry-After": "soon"}, 1),
        ({}, 1),
    ],
    ids=["seconds", "float", "ms", "date", "zero", "junk", "none"],
)
async def test_a_server_that_says_when_is_obeyed(headers, seconds):
    """Every form of the hint, and never less than our own back-off of 1 s."""
    refused = OSError("429")
    refused.response = SimpleNamespace(status_code=429, headers=headers)

    outcome = await outcome_of(policy_of().call(scripted(refused, "ok")))

    assert outcome == ("ok", pytest.approx(seconds))


async def test_a_hint_above_the_cap_is_not_waited_for():
    """The failure comes at once, with a note that says why."""
    failure = JudgedError(VerdictKind.RATE_LIMITED, retry_after=31)

    outcome, seconds = await outcome_of(policy_of(max_server_delay=30).call(scripted(failure)))

    assert (outcome, seconds) == (failure, 0)
    assert "longer wait than max_server_delay" in failure.__notes__[0]


async def test_signals_may_say_when():
    """`TryAgain(after=)` and, without a pool, `CooldownResource(seconds)`."""
    operation = scripted(TryAgain(after=5), CooldownResource(8), "ok")

    assert await outcome_of(policy_of().call(operation)) == ("ok", 13)


@pytest.mark.parametrize(
    "failure",
    [
        CooldownResource(60),
        DisableResource("revoked"),
        JudgedError(VerdictKind.QUOTA_EXHAUSTED, 900),
    ],
    ids=["cooldown", "auth", "quota"],
)
async def test_another_resource_is_tried_without_a_pause(failure):
    """With a pool innermost, what one resource did wrong costs no time."""
    policy = policy_of().rotating(["a", "b"])

    assert await outcome_of(policy.call(scripted(failure, "ok"))) == ("ok", 0)


async def test_a_rejection_is_waited_for_even_where_resources_rotate():
    """The pool's own refusal says when the first resource is back."""
    policy = policy_of().rotating(["a", "b"])
    operation = scripted(RateLimitedError(retry_after=12), "ok")

    assert await outcome_of(policy.call(operation)) == ("ok", 12)


async def test_a_wait_beyond_the_deadline_is_not_begun():
    """The real failure now, instead of a timeout later."""
    policy = Policy("p").with_timeout(10).with_retry(attempts=5, wait=4)
    failures = [OSError(str(n)) for n in range(5)]

    outcome, seconds = await outcome_of(policy.call(scripted(*failures)))

    assert outcome is failures[2]
    assert seconds == 8
    assert "cannot end before the deadline" in outcome.__notes__[0]


async def test_each_attempt_has_its_own_time_and_its_own_pause():
    """Five-second work cut after one, twice, with one pause of one: three seconds."""
    policy = policy_of(attempts=2).with_timeout(1)
    operation = scripted(then=takes(5, "late"))

    outcome, seconds = await outcome_of(policy.call(operation))

    assert isinstance(outcome, CallTimeoutError)
    assert (len(operation.times), seconds) == (2, 3)


@pytest.mark.parametrize(
    ("stop", "times"),
    [
        (10, [0, 4, 8]),
        (8, [0, 4]),
        (timedelta(seconds=9), [0, 4, 8]),
        (lambda attempt, elapsed: attempt >= 2 or elapsed > 100, [0, 4]),
        (lambda attempt, elapsed: elapsed >= 8, [0, 4, 8]),
    ],
    ids=["10s", "8s", "9s", "attempt", "elapsed"],
)
async def test_stop_bounds_the_whole_time(stop, times):
    """No attempt begins after it, and no number of attempts is assumed."""
    operation = scripted(then=OSError)

    outcome, _ = await outcome_of(policy_of(stop=stop, wait=4).call(operation))

    assert operation.times == times
    assert "the time for retries is spent" in outcome.__notes__[0]


async def test_stop_alone_allows_any_number_of_attempts():
    """A hundred quick ones fit into ten seconds."""
    operation = scripted(then=OSError)

    await outcome_of(policy_of(stop=10, wait=0.1).call(operation))

    assert 99 <= len(operation.times) <= 101


@pytest.mark.parametrize(("given", "calls"), [(1, 1), (2, 2), (9, 3)])
async def test_using_may_only_lower_the_attempts(given, calls):
    """A caller cannot ask for more than the policy allows."""
    operation = scripted(then=OSError)

    await outcome_of(policy_of(attempts=3).using(attempts=given).call(operation))

    assert len(operation.times) == calls


async def test_using_bounds_an_unbounded_retry():
    """Where only `stop` was given there is no number to compare with."""
    operation = scripted(then=OSError)

    await outcome_of(policy_of(stop=1000).using(attempts=4).call(operation))

    assert len(operation.times) == 4


async def test_a_stream_that_has_handed_items_on_is_not_retried():
    """Nobody can take back what the caller has seen."""

    async def commit(call, call_next):
        call.committed = True
        return await call_next(call)

    operation = scripted(then=OSError)

    outcome, _ = await outcome_of(policy_of().with_stage(commit).call(operation))

    assert len(operation.times) == 1
    assert "it has gone too far to be made again" in outcome.__notes__[0]


async def test_retries_pay_the_rate_limit_further_in():
    """Three attempts at one per 10 s are 10 s apart, whatever the back-off."""
    operation = scripted(OSError, OSError, "ok")

    await policy_of().with_rate("1/10s").call(operation)

    assert operation.times == pytest.approx([0, 10, 20])


async def test_retries_show_in_the_breaker_further_in():
    """Two failures open it; its rejection says when to come back, and is waited for."""
    policy = policy_of(attempts=4).with_breaker(failures=2, recover_after=30)
    operation = scripted(OSError, OSError, "ok")

    await policy.call(operation)

    assert operation.times == pytest.approx([0, 1, 31], abs=0.01)


async def test_a_rejection_after_real_failures_names_the_last_of_them():
    """Otherwise "circuit open" would hide what was wrong."""
    failures = [OSError("first"), OSError("second")]
    policy = policy_of(attempts=3).with_breaker(failures=2, recover_after=30)

    outcome, _ = await outcome_of(policy.call(scripted(*failures)))

    assert isinstance(outcome, CircuitOpenError)
    assert outcome.__cause__ is failures[1]


async def test_a_rejection_keeps_the_cause_that_it_has():
    """A stage further in knows better."""
    cause = KeyError("known")
    rejection = ConcurrencyLimitedError("full")
    rejection.__cause__ = cause

    outcome, _ = await outcome_of(policy_of(attempts=2).call(scripted(OSError, rejection)))

    assert outcome is rejection
    assert outcome.__cause__ is cause


async def test_a_rejection_alone_gets_no_cause():
    """There was nothing before it."""
    outcome, _ = await outcome_of(policy_of().call(scripted(then=ConcurrencyLimitedError("full"))))

    assert outcome.__cause__ is None


async def test_an_exception_that_is_reused_keeps_one_note():
    """The same object raised by call after call must not grow."""
    failure = OSError("always the same")
    failure.add_note("somebody else's")

    for _ in range(3):
        await outcome_of(policy_of().call(scripted(then=failure)))

    assert len(failure.__notes__) == 2
    assert failure.__notes__[0] == "somebody else's"


@dataclass(frozen=True)
class FrozenError(Exception):
    """An exception that nobody can write to."""

    code: int


async def test_an_exception_that_takes_no_note_is_raised_all_the_same():
    """Nothing may hide the failure, not even its own refusal."""
    failure = FrozenError(7)

    outcome, _ = await outcome_of(policy_of().call(scripted(then=failure)))

    assert outcome is failure


async def test_the_call_knows_its_attempt_and_that_it_may_be_repeated():
    """Stages further in read both; further out neither is left behind."""
    seen = []

    async def outer(call, call_next):
        try:
            return await call_next(call)
        finally:
            seen.append(("outer", call.attempts_inside))

    async def inner(call, call_next):
        seen.append((call.attempt, call.attempts_inside, call.verdict))
        return await call_next(call)

    stage = Retry(RetryOptions(wait=0))
    policy = Policy("p").with_stage(outer).with_stage(stage).with_stage(inner)

    await policy.call(scripted(OSError, OSError, "ok"))

    assert seen == [(1, True, None), (2, True, None), (3, True, None), ("outer", False)]


@pytest.mark.parametrize("is_async", [False, True])
async def test_on_retry_is_called_before_each_pause(is_async):
    """Attempts minus one times, with 1, 2, ... and the failure; not after the last."""
    seen = []

    def plain(attempt, failure):
        seen.append((attempt, failure, clock.now()))

    async def slow(attempt, failure):
        await asyncio.sleep(10)
        plain(attempt, failure)

    failures = [OSError(str(n)) for n in range(3)]
    hook = slow if is_async else plain

    await outcome_of(policy_of(on_retry=hook).call(scripted(*failures)))

    times = [10, 21] if is_async else [0, 1]
    assert seen == [(1, failures[0], times[0]), (2, failures[1], times[1])]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_hook_that_raises_changes_nothing_for_the_caller(is_async, caplog):
    """It is logged and told, once for each time."""
    log = EventLog()

    def plain(attempt, failure):
        raise RuntimeError("hook")

    async def slow(attempt, failure):
        raise RuntimeError("hook")

    policy = policy_of(log, on_retry=slow if is_async else plain)

    assert await outcome_of(policy.call(scripted(OSError, OSError, "ok"))) == ("ok", 2)
    assert len(log.of(HookFailed, hook="on_retry", error_type="RuntimeError")) == 2
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


async def test_events_tell_the_whole_story():
    """Scheduled, waited, scheduled, waited, stopped."""
    log = EventLog()

    await outcome_of(policy_of(log, wait=lambda n: n).call(scripted(then=ConnectionError)))

    told = [event for event in log if isinstance(event, RetryScheduled | RetryStopped | WaitEnded)]
    assert [type(event).__name__ for event in told] == [
        "RetryScheduled",
        "WaitEnded",
        "RetryScheduled",
        "WaitEnded",
        "RetryStopped",
    ]
    first, waited, _, _, last = told
    assert (first.attempt, first.delay, first.verdict) == (1, 1, VerdictKind.TRANSIENT)
    assert (waited.stage, waited.seconds) == ("backoff", 1)
    assert (last.attempt, last.reason, last.error_type) == (3, "attempts spent", "ConnectionError")


async def test_a_wait_of_zero_does_not_suspend():
    """Three quick attempts in one step of the loop; the tenth lets others in."""
    steps = 0

    async def count_steps():
        nonlocal steps
        while True:
            steps += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count_steps())
    await asyncio.sleep(0)
    before = steps
    await outcome_of(policy_of(wait=0, attempts=3).call(scripted(then=OSError)))
    few = steps - before
    await outcome_of(policy_of(wait=0, attempts=101).call(scripted(then=OSError)))
    many = steps - before
    counter.cancel()

    assert (few, many) == (0, 10)


# ---- results


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_result_that_is_not_accepted_is_tried_again(is_async):
    """Until one is accepted; all predicates have to be true."""

    async def slowly_long(result):
        await asyncio.sleep(0)
        return len(result) > 3

    def is_long(result):
        return len(result) > 3

    policy = policy_of(accept=[str.isalpha, slowly_long if is_async else is_long], attempts=4)
    operation = scripted("ab", "abc1", "abcd")

    assert await outcome_of(policy.call(operation)) == ("abcd", 2)


async def test_at_the_end_all_results_and_failures_are_in_the_error():
    """Refused ones, what validators raised, and what attempts raised, each in order."""
    raised = KeyError("validator")

    def accept(result):
        if result == "bad":
            raise raised
        return False

    failure = OSError("attempt")
    policy = policy_of(accept=accept, attempts=3)

    outcome, _ = await outcome_of(policy.call(scripted("bad", failure, "worse")))

    assert isinstance(outcome, InvalidResultError)
    assert outcome.results == ("bad", "worse")
    assert outcome.failures == (raised, failure)
    assert str(outcome) == "no result was accepted after 3 attempts in 2.000 s: attempts spent"


async def test_results_are_judged_even_without_retries():
    """One attempt, and still nothing unaccepted gets out."""
    outcome, _ = await outcome_of(policy_of(accept=bool, attempts=1).call(scripted("")))

    assert isinstance(outcome, InvalidResultError)


async def test_a_failure_at_the_end_is_raised_as_it_is_although_results_were_refused():
    """The last outcome decides what the caller gets."""
    failure = OSError("last")

    outcome, _ = await outcome_of(policy_of(accept=bool, attempts=2).call(scripted(0, failure)))

    assert outcome is failure


async def test_on_retry_gets_an_exception_for_a_result_too():
    """It carries the result."""
    seen = []
    policy = policy_of(accept=bool, on_retry=lambda *facts: seen.append(facts))

    await policy.call(scripted("", "ok"))

    [(attempt, failure)] = seen
    assert attempt == 1
    assert isinstance(failure, InvalidResultError)
    assert failure.results == ("",)


async def test_refused_results_are_handed_to_discard():
    """Before the pause, so that nothing is held while sleeping; the accepted one is not."""
    closed = []

    async def close(result):
        closed.append((result, clock.now()))

    policy = Policy("p", discard=close).with_retry(wait=1, accept=lambda result: result > 1)

    assert await policy.call(scripted(0, 1, 2)) == 2
    assert closed == [(0, 0), (1, 1)]


async def test_a_discard_that_raises_changes_nothing_for_the_caller(caplog):
    """It is logged."""

    def close(result):
        raise RuntimeError("cannot close")

    policy = Policy("p", discard=close).with_retry(wait=1, accept=bool)

    assert await policy.call(scripted(0, 1)) == 1
    assert "discard raised" in caplog.text


def response(status, **headers):
    """Return what looks like an HTTP response."""
    return SimpleNamespace(status_code=status, headers=headers)


async def test_a_result_with_a_bad_verdict_is_retried_and_discarded():
    """A response of 503 is a failure; the one before the good one is closed before the pause."""
    closed = []
    bad, good = response(503), response(200)
    policy = Policy(
        "p", classify_result="http", discard=lambda r: closed.append((r, clock.now()))
    ).with_retry(wait=1)

    assert await policy.call(scripted(bad, good)) is good
    assert closed == [(bad, 0)]


async def test_the_last_response_reaches_the_caller_open():
    """At the end the caller gets the response itself, so it must not have been closed."""
    closed = []
    responses = [response(503) for _ in range(3)]
    policy = Policy("p", classify_result="http", discard=closed.append).with_retry(wait=1)

    assert await policy.call(scripted(*responses)) is responses[2]
    assert closed == responses[:2]


async def test_on_retry_sees_a_refused_response():
    """As an exception that is public, not as the one that travels inside."""
    seen = []
    policy = Policy("p", classify_result="http").with_retry(
        wait=1, on_retry=lambda _, failure: seen.append(failure)
    )

    await policy.call(scripted(response(503), response(200)))

    assert type(seen[0]) is InvalidResultError
    assert seen[0].results[0].status_code == 503


# ---- state, memory, randomness


async def test_a_shape_with_memory_keeps_it_per_call():
    """Two calls through one policy wait as one alone would."""
    policy = Policy("p").with_retry(attempts=4, wait=Decorrelated(), seed=5)
    alone = scripted(then=OSError)
    await outcome_of(policy.fresh().call(alone))
    expected = alone.times

    other = scripted(then=OSError)
    began = clock.now()
    await outcome_of(policy.call(other))

    assert [at - began for at in other.times] == pytest.approx(expected)


async def test_the_seed_makes_jitter_repeatable():
    """And without one two policies differ."""

    async def total(seed):
        policy = Policy("p").with_retry(attempts=5, wait=Exponential(), seed=seed)
        return (await outcome_of(policy.call(scripted(then=OSError))))[1]

    assert await total(1) == pytest.approx(await total(1))
    assert await total(None) != pytest.approx(await total(None))


async def test_the_snapshot_counts_what_was_done():
    """Retries made and calls given up on; a fresh copy starts at nothing."""
    policy = policy_of(attempts=2)
    await outcome_of(policy.call(scripted(OSError, "ok")))
    await outcome_of(policy.call(scripted(OSError, OSError)))

    counts = {"stage": "retry", "attempts": 2, "retries": 2, "gave_up": 1}
    assert policy.stages[0].snapshot() == counts
    assert policy.fresh().stages[0].snapshot() == {**counts, "retries": 0, "gave_up": 0}


def test_a_stage_says_whether_it_repeats():
    """A policy refuses a bare awaitable where it would."""
    assert Retry(RetryOptions()).repeats
    assert not Retry(RetryOptions(attempts=1)).repeats


async def collected_by(calls, policy, *script):
    """Return how much garbage so many calls leave."""

    async def operation():
        outcome = next(outcomes)
        if isinstance(outcome, type):
            raise outcome
        return outcome

    outcomes = iter(script * (calls + 1))
    await policy.call(operation)
    gc.collect()
    gc.disable()
    try:
        for _ in range(calls):
            await policy.call(operation)
        return gc.collect()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "script", [("ok",), (OSError, OSError, "ok")], ids=["at once", "after two failures"]
)
async def test_a_successful_call_leaves_no_garbage(script):
    """No cycle: neither on the quick path nor after failures."""
    policy = Policy("p").with_budget(min_per_second=1e6).with_retry(wait=0)

    assert await collected_by(1000, policy, *script) == 0


async def test_results_that_were_refused_leave_no_garbage():
    """Nor does a result that had to be judged."""
    policy = Policy("p").with_retry(wait=Constant(seconds=0), accept=bool)

    assert await collected_by(200, policy, 0, OSError, 1) == 0


@pytest.mark.parametrize("before_sleep", [None, print])
async def test_a_failed_call_keeps_no_cycle_of_its_own(before_sleep, capsys):
    """What is left of a failure goes with it, once the call has forgotten its verdict."""

    async def forget(call, call_next):
        try:
            return await call_next(call)
        finally:
            call.forget_verdict()

    async def operation():
        raise OSError

    retry = Retry(RetryOptions(wait=0, before_sleep=before_sleep))
    policy = Policy("p").with_stage(forget).with_stage(retry)
    with suppress(OSError):
        await policy.call(operation)
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            with suppress(OSError):
                await policy.call(operation)
        assert gc.collect() == 0
    finally:
        gc.enable()


async def test_only_the_last_failure_is_kept_while_a_call_goes_on():
    """A failure holds a whole stack; a long retry must not pile them up."""
    alive = weakref.WeakSet()
    most = 0

    async def operation():
        nonlocal most
        most = max(most, len(alive))
        failure = JudgedError()
        alive.add(failure)
        try:
            raise failure
        finally:
            del failure

    await outcome_of(policy_of(attempts=10).call(operation))

    assert most == 1


async def test_the_ten_thousandth_attempt_waits_as_it_should():
    """Hours of virtual time; no overflow, no drift of the bound."""
    operation = scripted(then=OSError)
    policy = Policy("p").with_retry(
        attempts=10_000, wait=Exponential(initial=1, max=5, jitter="none")
    )

    _, seconds = await outcome_of(policy.call(operation))

    assert len(operation.times) == 10_000
    assert seconds == 1 + 2 + 4 + 5 * (9999 - 3)
