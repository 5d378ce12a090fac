"""What dspu.aio does, done with a Policy (rows D1 to D19 of docs/parity.md)."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time

import pytest

from penstock import CallTimeoutError, CircuitOpenError, ConfigError, Policy, PolicyError
from penstock.events import CircuitChanged
from penstock.stages.breaker import Breaker, BreakerOptions
from penstock.stages.rate_limit import RateLimit, RateLimitOptions
from penstock.stages.retry import Constant, Exponential, Linear
from penstock.testing import EventLog, scripted, takes

pytestmark = pytest.mark.virtual_time


def now() -> float:
    """Return the second of the running loop."""
    return asyncio.get_running_loop().time()


def waits(shape: Exponential | Linear | Constant, count: int) -> list[float]:
    """Return the first waits of a shape without chance."""
    wait = shape.waits(random=lambda: 0.5)
    return [wait(attempt) for attempt in range(1, count + 1)]


async def test_d1_three_attempts_then_the_last_failure_and_how_many_there_were() -> None:
    """The failure is the operation's own; a note tells the number of attempts."""
    policy = Policy("retry").with_retry(attempts=3, wait=1)
    last = ConnectionError("third")

    with pytest.raises(ConnectionError) as caught:
        await policy.call(scripted(ConnectionError("first"), ConnectionError("second"), last))

    assert caught.value is last
    assert last.__notes__ == ["penstock: gave up after 3 attempts in 2.000 s: attempts spent"]


async def test_d1_an_unlisted_error_is_raised_untouched_after_one_call() -> None:
    """No wrapper, no note, no second call."""
    policy = Policy("retry").with_retry(attempts=3, retry_on=ConnectionError)
    failure = KeyError("unlisted")
    work = scripted(failure)

    with pytest.raises(KeyError) as caught:
        await policy.call(work)

    assert caught.value is failure
    assert not hasattr(failure, "__notes__")
    assert len(work.calls) == 1


@pytest.mark.parametrize("attempts", [0, -1, 1.5, float("inf")])
def test_d1_attempts_that_call_nothing_are_refused(attempts: object) -> None:
    """A retry that never calls is a mistake, not an error at run time."""
    with pytest.raises(ConfigError, match="'attempts' must be a whole number of at least 1"):
        Policy("retry").with_retry(attempts=attempts)  # type: ignore[arg-type]


def test_d2_back_off_without_jitter_is_exact_and_never_above_the_limit() -> None:
    """Exponential 1, 2, 4, 8; constant 1, 1, 1; the limit holds after jitter too."""
    exponential = waits(Exponential(initial=1, max=60, jitter="none"), 8)
    linear = waits(Linear(initial=1, increment=2, max=60, jitter="none"), 4)
    constant = waits(Constant(seconds=1), 4)
    jittered = Exponential(initial=1, max=60, jitter=0.25).waits(random=lambda: 0.999999)

    assert exponential == [1, 2, 4, 8, 16, 32, 60, 60]
    assert linear == [1, 3, 5, 7]
    assert constant == [1, 1, 1, 1]
    assert max(jittered(attempt) for attempt in range(1, 50)) <= 60


async def test_d3_on_retry_is_awaited_before_each_pause_and_not_after_the_last_failure() -> None:
    """Attempts minus one calls, numbered from 1; what it raises changes nothing."""
    told: list[tuple[int, str, float]] = []

    async def on_retry(attempt: int, failure: Exception) -> None:
        await asyncio.sleep(0)
        told.append((attempt, str(failure), now()))
        raise RuntimeError

    policy = Policy("retry").with_retry(attempts=3, wait=1, on_retry=on_retry)

    with pytest.raises(ConnectionError, match="three"):
        await policy.call(scripted(*[ConnectionError(word) for word in ("one", "two", "three")]))

    assert told == [(1, "one", 0), (2, "two", 1)]


async def test_d4_a_burst_then_the_rate_on_average() -> None:
    """Five at once, then one every half second."""
    policy = Policy("bucket").with_rate(2, burst=5)
    work = scripted(then="done")

    await asyncio.gather(*(policy.call(work) for _ in range(9)))

    assert work.times == pytest.approx([0, 0, 0, 0, 0, 0.5, 1.0, 1.5, 2.0])


@pytest.mark.parametrize("burst", [0, -1, 2.5, float("nan"), float("inf")])
def test_d4_a_capacity_that_holds_nothing_is_refused(burst: object) -> None:
    """A bucket holds at least one token."""
    with pytest.raises(ConfigError, match="'burst' must be a whole number of at least 1"):
        Policy("bucket").with_rate(2, burst=burst)  # type: ignore[arg-type]


async def test_d5_five_tokens_cost_five_times_one() -> None:
    """A call of cost 5 waits as long as five calls of cost 1."""
    one = RateLimit(RateLimitOptions(rate=1, burst=5))
    five = one.fresh()

    for _ in range(10):
        await one.acquire()
    singles = now()
    await five.acquire(5)
    await five.acquire(5)

    assert singles == pytest.approx(5)
    assert now() - singles == pytest.approx(5)


@pytest.mark.parametrize("cost", [6, -1, float("nan"), float("inf")])
async def test_d5_a_cost_beyond_the_capacity_or_below_zero_is_refused_at_once(cost: float) -> None:
    """It could never be served, so nobody waits for it."""
    limit = RateLimit(RateLimitOptions(rate=1, burst=5))

    with pytest.raises(ConfigError, match="rate_limit: 'cost' must be"):
        await limit.acquire(cost)

    assert now() == 0


async def test_d5_a_cancelled_waiter_takes_no_tokens() -> None:
    """Whoever leaves the line leaves its turn to the next."""
    limit = RateLimit(RateLimitOptions(rate=1, burst=1))
    await limit.acquire()
    leaver = asyncio.create_task(limit.acquire())
    stayer = asyncio.create_task(limit.acquire())
    await asyncio.sleep(0.5)

    leaver.cancel()
    await stayer

    assert now() == pytest.approx(1)


def test_d6_trying_never_suspends() -> None:
    """It is no coroutine: there is nothing to suspend, and no loop is needed."""
    limit = RateLimit(RateLimitOptions(rate="1/h"))

    answers = [limit.try_acquire(), limit.try_acquire()]

    assert answers == [True, False]
    assert not inspect.iscoroutinefunction(limit.try_acquire)


async def test_d7_tokens_outside_of_a_policy_and_as_a_decorator() -> None:
    """Taken by hand and not given back by an error; counted; new with ``fresh``."""
    limit = RateLimit(RateLimitOptions(rate="3/min"))
    policy = Policy("limited").with_stage(limit)

    @policy
    async def fail() -> None:
        raise RuntimeError

    await limit.acquire(2)
    with pytest.raises(RuntimeError):
        await fail()

    assert limit.snapshot()["available"] == [0]
    assert limit.fresh().snapshot()["available"] == [3]


async def test_d8_the_circuit_opens_probes_and_closes() -> None:
    """Five failures open it; after the time a trial runs; two successes close it."""
    breaker = Breaker(BreakerOptions(failures=5, recover_after=60, successes=2))
    policy = Policy("circuit").with_stage(breaker)
    work = scripted(*[ConnectionError] * 5, "trial", "trial", then="well")

    for _ in range(5):
        with pytest.raises(ConnectionError):
            await policy.call(work)
    with pytest.raises(CircuitOpenError) as rejected:
        await policy.call(work)
    await asyncio.sleep(60)
    await policy.call(work)
    state_after_one = breaker.state
    await policy.call(work)

    assert rejected.value.retry_after == 60
    assert len(work.calls) == 7
    assert (state_after_one, breaker.state) == ("half_open", "closed")


async def test_d8_one_failed_trial_opens_the_circuit_again() -> None:
    """And its time begins anew."""
    breaker = Breaker(BreakerOptions(failures=1, recover_after=60, successes=2))
    policy = Policy("circuit").with_stage(breaker)
    work = scripted(ConnectionError, "trial", ConnectionError)

    for pause in (60, 0, 0):
        try:
            await policy.call(work)
        except ConnectionError:
            await asyncio.sleep(pause)

    assert breaker.state == "open"
    assert breaker.snapshot()["retry_after"] == 60


async def test_d8_a_success_ends_the_row() -> None:
    """Failures count in a row only."""
    policy = Policy("circuit").with_breaker(failures=2)
    work = scripted(ConnectionError, "well", ConnectionError, "well", ConnectionError, "well")

    results = [await asyncio.gather(policy.call(work), return_exceptions=True) for _ in range(6)]

    assert [result for [result] in results][1::2] == ["well", "well", "well"]


async def test_d9_an_ignored_error_leaves_the_count_as_it_is() -> None:
    """It neither counts nor resets; a cancellation is neutral too."""
    breaker = Breaker(BreakerOptions(failures=3, failure_on=ConnectionError))
    policy = Policy("circuit").with_stage(breaker)
    work = scripted(ConnectionError, ConnectionError, KeyError, takes(100))

    for _ in range(3):
        with pytest.raises((ConnectionError, KeyError)):
            await policy.call(work)
    call = asyncio.create_task(policy.call(work))
    await asyncio.sleep(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert breaker.snapshot()["failures"] == 2


async def test_d10_a_reset_by_hand_admits_calls_at_once() -> None:
    """State and counts can be read; reset closes and zeroes."""
    breaker = Breaker(BreakerOptions(failures=1))
    policy = Policy("circuit").with_stage(breaker)
    with pytest.raises(ConnectionError):
        await policy.call(scripted(ConnectionError))
    state_before = breaker.state

    breaker.reset()

    assert state_before == "open"
    assert (breaker.state, breaker.snapshot()["failures"]) == ("closed", 0)
    assert await policy.call(scripted("through")) == "through"


async def test_d11_each_change_is_told_once_with_both_states() -> None:
    """To the hook and to observers, outside of any lock."""
    told: list[tuple[str, str]] = []

    async def on_state_change(old: str, new: str) -> None:
        told.append((old, new))

    log = EventLog()
    policy = Policy("circuit", observers=[log]).with_breaker(
        1, recover_after=5, on_state_change=on_state_change
    )

    with pytest.raises(ConnectionError):
        await policy.call(scripted(ConnectionError))
    await asyncio.sleep(5)
    await policy.call(scripted("well"))
    await asyncio.sleep(0)

    changes = [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]
    assert told == changes
    assert [(event.old, event.new) for event in log.of(CircuitChanged)] == changes


async def test_d12_gather_keeps_the_limit_and_the_order() -> None:
    """At most so many at once, results in input order, nothing for nothing."""
    policy = Policy("batch")

    async def wait_and_return(number: int) -> int:
        await asyncio.sleep(1 / (number + 1))
        return number

    work = scripted(then=wait_and_return)
    results = await policy.gather(work, range(10), concurrency=3)
    nothing = await policy.gather(work, [])

    assert results == list(range(10))
    assert work.most_in_flight == 3
    assert nothing == []


async def test_d12_the_first_error_ends_a_batch_unless_errors_are_kept() -> None:
    """With ``return_exceptions`` an error stands in its item's place."""
    policy = Policy("batch")

    async def work(number: int) -> int:
        if number == 2:
            raise KeyError(number)
        return number

    with pytest.raises(KeyError):
        await policy.gather(work, range(4))
    kept = await policy.gather(work, range(4), return_exceptions=True)

    assert [repr(result) for result in kept] == ["0", "1", "KeyError(2)", "3"]


@pytest.mark.parametrize("limit", [0, -1, 2.5, True])
async def test_d12_a_limit_that_runs_nothing_is_refused(limit: object) -> None:
    """The error names the argument and what is allowed."""
    with pytest.raises(ConfigError, match="'concurrency' must be a whole number of at least 1"):
        await Policy("batch").gather(scripted(), [1], concurrency=limit)  # type: ignore[arg-type]


async def test_d13_expiry_is_caught_by_except_timeout_error() -> None:
    """The policy's error is a ``TimeoutError`` that knows its limit."""
    policy = Policy("slow").with_timeout(2)

    with pytest.raises(TimeoutError) as caught:
        await policy.call(scripted(takes(10)))

    assert isinstance(caught.value, CallTimeoutError)
    assert caught.value.seconds == 2
    assert now() == 2


async def test_d14_the_default_stands_in_for_expiry_only() -> None:
    """Any other error reaches the caller."""
    policy = Policy("slow").with_fallback(value="default", fallback_on="timeout").with_timeout(2)

    on_expiry = await policy.call(scripted(takes(10)))
    with pytest.raises(ConnectionError):
        await policy.call(scripted(ConnectionError))

    assert on_expiry == "default"


async def test_d15_leaving_early_disarms_the_timeout() -> None:
    """What follows in the same task is not disturbed."""
    policy = Policy("slow").with_timeout(2)

    await policy.call(scripted(takes(1, "in time")))
    await asyncio.sleep(10)

    assert now() == 11


async def test_d16_shielded_work_survives_the_cancel_of_its_caller() -> None:
    """The shield of asyncio goes round a call like round anything else."""
    policy = Policy("shield").with_retry(attempts=2, wait=1).with_concurrency(1)
    work = scripted(ConnectionError, takes(5, "survived"))
    inner = asyncio.create_task(policy.call(work))

    async def caller() -> object:
        return await asyncio.shield(inner)

    task = asyncio.create_task(caller())
    await asyncio.sleep(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await inner == "survived"


@pytest.mark.integration
async def test_d17_a_blocking_function_does_not_stall_the_loop() -> None:
    """A plain function runs in a worker thread, with its keyword arguments."""
    policy = Policy("blocking").with_timeout(5)
    ticks = 0

    def block(seconds: float, *, answer: str) -> tuple[str, bool]:
        time.sleep(seconds)
        return answer, threading.current_thread() is threading.main_thread()

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    result = await policy.call(block, 0.2, answer="done")
    ticking.cancel()

    assert result == ("done", False)
    assert ticks >= 5


@pytest.mark.integration
def test_d18_a_sync_caller_gets_the_result() -> None:
    """Without a loop, from any thread."""
    policy = Policy("sync").with_retry(attempts=2, wait=0)

    assert policy.run_sync(scripted(ConnectionError, "result")) == "result"


async def test_d18_inside_a_running_loop_it_is_a_clear_error() -> None:
    """It would stand still; the message says what to write instead."""
    with pytest.raises(PolicyError, match=r"use: await policy\.call"):
        Policy("sync").run_sync(scripted("never"))


async def test_d19_each_retry_pays_the_limiter_and_is_seen_by_the_breaker() -> None:
    """Retry round limiter round breaker, in one policy object."""
    policy = Policy("stack").with_retry(attempts=4, wait=0).with_rate("1/10s").with_breaker(3)
    work = scripted(then=ConnectionError)

    with pytest.raises(CircuitOpenError) as caught:
        await policy.call(work)

    assert work.times == [0, 10, 20]
    assert isinstance(caught.value.__cause__, ConnectionError)
