"""Rules learned from where other packages fail, over whole pipelines; see docs/parity.md."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest

from penstock import (
    CallTimeoutError,
    CircuitOpenError,
    ConcurrencyLimitedError,
    ConfigError,
    Event,
    Policy,
    RateLimitedError,
    TryAgain,
)
from penstock.events import CallRejected, FallbackUsed, HookFailed, RetryStopped
from penstock.stages.breaker import Breaker, BreakerOptions
from penstock.stages.concurrency import Concurrency, ConcurrencyOptions
from penstock.stages.rate_limit import RateLimit, RateLimitOptions
from penstock.stages.retry import Exponential
from penstock.testing import EventLog, VirtualTimeLoop, scripted, takes

pytestmark = pytest.mark.virtual_time


class LimitedError(Exception):
    """Stands in for an answer with status 429."""

    status_code = 429

    def __init__(self, retry_after: str) -> None:
        super().__init__(retry_after)
        self.headers = {"Retry-After": retry_after}


def now() -> float:
    """Return the second of the running loop."""
    return asyncio.get_running_loop().time()


def every_stage() -> Policy:
    """Return a policy of all stages that hold something."""
    return (
        Policy("all")
        .with_timeout(100)
        .with_retry(attempts=3, wait=10)
        .with_rate(5, burst=1)
        .with_breaker(failures=2, recover_after=30)
        .with_concurrency(1)
        .with_timeout(20)
    )


def balance(policy: Policy) -> dict[str, Any]:
    """Return what the stages hold for calls under way."""
    books: dict[str, Any] = {}
    for place, stage in enumerate(policy.snapshot()["stages"]):
        for fact in ("in_flight", "waiting", "running", "probes_out"):
            if fact in stage:
                books[f"{place}.{stage['stage']}.{fact}"] = stage[fact]
    return books


# Rule 1


@pytest.mark.parametrize("after", [0.0, 1.0, 15.0, 25.0])
async def test_a_cancelled_caller_stops_its_work_and_frees_what_it_held(after: float) -> None:
    """In the first attempt, in back-off or in a later one: its finally runs and nothing follows."""
    policy = every_stage()
    begun: list[float] = []
    ended: list[float] = []

    async def work() -> None:
        begun.append(now())
        try:
            await asyncio.sleep(10)
            raise TryAgain
        finally:
            ended.append(now())

    call = asyncio.create_task(policy.call(work))
    await asyncio.sleep(after)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    begun_by_then = list(begun)
    await asyncio.sleep(1000)

    assert begun == begun_by_then
    assert len(ended) == len(begun)
    assert not any(balance(policy).values())
    assert await policy.call(scripted("next")) == "next"


# Rule 2


@pytest.mark.parametrize("failure", [asyncio.CancelledError, GeneratorExit])
async def test_an_operation_that_cancels_itself_ends_its_own_call_alone(
    failure: type[BaseException],
) -> None:
    """Whoever waits behind it is served; nothing is retried and nobody is left waiting."""
    policy = every_stage()
    work = scripted(failure)
    follower = scripted("served")

    outcomes = await asyncio.gather(
        asyncio.create_task(policy.call(work)),
        asyncio.create_task(policy.call(follower)),
        return_exceptions=True,
    )

    assert isinstance(outcomes[0], failure)
    assert outcomes[1] == "served"
    assert len(work.calls) == 1
    assert not any(balance(policy).values())


async def test_a_batch_ends_when_an_operation_cancels_itself() -> None:
    """A batch passes the cancellation on and leaves no worker behind."""
    policy = Policy("batch")

    async def work(number: int) -> int:
        if number == 3:
            raise asyncio.CancelledError
        await asyncio.sleep(5)
        return number

    with pytest.raises(asyncio.CancelledError):
        await policy.gather(work, range(6))

    assert asyncio.all_tasks() == {asyncio.current_task()}


# Rule 3


async def test_a_foreign_cancel_wins_in_the_same_step_as_the_policys_own() -> None:
    """Both come at second 20, in either order; the caller asked for an end and gets it."""
    for first in ("foreign", "own"):
        policy = Policy("both").with_retry(attempts=2, wait=0).with_timeout(20)
        call: asyncio.Task[Any]
        loop = asyncio.get_running_loop()
        begin = loop.time()
        if first == "foreign":
            loop.call_at(begin + 20, lambda: call.cancel())  # noqa: B023, PLW0108 - made below
        call = asyncio.create_task(policy.call(scripted(then=takes(100))))
        await asyncio.sleep(0)
        if first == "own":
            loop.call_at(begin + 20, call.cancel)

        with pytest.raises(asyncio.CancelledError):
            await call

        assert now() == begin + 20


# Rule 6


async def test_everything_held_is_given_back_before_a_back_off_sleep() -> None:
    """During the pause only the total timeout watches the call."""
    policy = every_stage()
    books: list[dict[str, Any]] = []

    async def look() -> None:
        await asyncio.sleep(5)
        books.append(balance(policy))

    await asyncio.gather(policy.call(scripted(TryAgain, "done")), look())

    held = {name: count for name, count in books[0].items() if count}
    assert held == {"0.timeout.running": 1}


# Rule 8


async def test_whatever_makes_a_wait_pointless_ends_it() -> None:
    """A raised limit, a raised rate and a refund each wake those who wait, at once and in order."""
    concurrency = Concurrency(ConcurrencyOptions(limit=1))
    rate = RateLimit(RateLimitOptions(rate="1/h"))
    served: list[tuple[str, float]] = []

    async def serve(name: str) -> None:
        served.append((name, now()))
        await asyncio.sleep(100)

    permits = Policy("permits").with_stage(concurrency)
    starts = Policy("starts").with_stage(rate)
    calls = [asyncio.create_task(permits.call(serve, f"permit {n}")) for n in range(3)]
    reservation = await rate.acquire()
    calls += [asyncio.create_task(starts.call(serve, f"start {n}")) for n in range(3)]

    await asyncio.sleep(10)
    concurrency.resize(3)
    await asyncio.sleep(10)
    reservation.cancel()
    await asyncio.sleep(10)
    rate.change_rate(3)
    await asyncio.gather(*calls)

    assert served == [
        ("permit 0", 0),
        ("permit 1", 10),
        ("permit 2", 10),
        ("start 0", 20),
        ("start 1", 30),
        ("start 2", 30),
    ]


# Rule 10


async def test_no_stage_begins_a_wait_that_cannot_end_before_the_deadline() -> None:
    """Each refuses in the instant in which it knows, and says when it could have served."""
    rate = Policy("rate").with_timeout(5).with_rate("1/min")
    retry = Policy("retry").with_timeout(5).with_retry(wait=60)
    breaker = Policy("breaker").with_timeout(5).with_retry(attempts=9, wait=0).with_breaker(1, 60)
    await rate.call(scripted("first"))

    with pytest.raises(RateLimitedError) as limited:
        await rate.call(scripted("never"))
    with pytest.raises(TryAgain):
        await retry.call(scripted(TryAgain))
    with pytest.raises(CircuitOpenError) as opened:
        await breaker.call(scripted(ConnectionError))

    assert limited.value.retry_after == 60
    assert opened.value.retry_after == 60
    assert now() == 0


# Rule 13


async def test_a_burst_of_failures_opens_the_circuit_once() -> None:
    """Ten calls fail together: one change, and one step of growth at most."""
    breaker = Breaker(BreakerOptions(failures=2, recover_after=10, recover_growth=3))
    log = EventLog()
    policy = Policy("burst", observers=[log]).with_stage(breaker)
    work = scripted(then=takes(1, ConnectionError))

    calls = [asyncio.create_task(policy.call(work)) for _ in range(10)]
    await asyncio.gather(*calls, return_exceptions=True)

    assert log.names().count("CircuitChanged") == 1
    assert breaker.snapshot()["retry_after"] == 10


async def test_a_burst_of_hints_pauses_the_rate_limit_once() -> None:
    """Ten answers of "come back in 4 s" are one pause of 4 s, not of 40."""
    policy = Policy("burst").with_rate(10)
    work = scripted(*[takes(1, LimitedError("4"))] * 10, "through")

    calls = [asyncio.create_task(policy.call(work)) for _ in range(10)]
    await asyncio.gather(*calls, return_exceptions=True)
    result = await policy.call(work)

    assert (result, now()) == ("through", 1 + 4)


# Rule 14


async def test_nothing_hides_the_last_failure() -> None:
    """Every hook of the policy raises; the caller gets the operation's own failure object."""

    def fail(*_: object) -> Any:
        raise RuntimeError

    last = ConnectionError("the last one")
    policy = (
        Policy("hooks", classify=fail, discard=fail, observers=[fail])
        .with_fallback(value="never", fallback_on=fail)
        .with_retry(attempts=2, wait=0, on_retry=fail, before_sleep=fail)
        .with_rate(10, cost=2)
        .with_breaker(5, failure_on=fail, on_state_change=fail)
    )

    with pytest.raises(ConnectionError) as caught:
        await policy.call(scripted(ConnectionError("the first one"), last))

    assert caught.value is last
    assert caught.value.__cause__ is None


# Rule 15


async def test_an_open_circuit_is_not_asked_again_in_a_hurry() -> None:
    """Twenty calls with retries: each comes back when the circuit said, not before."""
    log = EventLog()
    policy = (
        Policy("patient", observers=[log])
        .with_retry(attempts=3, wait=0.01)
        .with_breaker(failures=1, recover_after=60)
    )
    work = scripted(ConnectionError, then="back")
    with pytest.raises(ConnectionError):
        await policy.using(attempts=1).call(work)

    call = asyncio.create_task(policy.call(work))
    await asyncio.sleep(59.9)
    rejected_while_open = len(log.of(CallRejected))
    result = await call

    assert rejected_while_open == 1
    assert (result, work.times) == ("back", [0, 60])


# Rule 19


async def test_over_use_is_charged_and_under_use_comes_back_on_every_way_out() -> None:
    """A call that fails, is cancelled or times out after settling has paid what it settled."""
    from penstock import current_call  # noqa: PLC0415 - read as an example

    for ending in (None, RuntimeError, asyncio.CancelledError, takes(100)):
        limit = RateLimit(RateLimitOptions(rate="100/min", cost=10))
        policy = Policy("meter").with_stage(limit).with_timeout(1)
        for used, left in ((4, 96), (30, 66)):

            async def work(used: int = used, ending: object = ending) -> None:
                current_call().settle(used)
                await scripted(ending)()

            await asyncio.gather(asyncio.create_task(policy.call(work)), return_exceptions=True)

            assert limit.snapshot()["available"] == [left]
        await asyncio.sleep(60)


# Rule 21


async def test_an_observer_may_call_back_in_and_may_raise() -> None:
    """It sees a consistent state, uses the policy, raises, and nothing changes for the caller."""
    seen: list[int] = []

    def observer(event: Event) -> None:
        if isinstance(event, CallRejected):
            seen.append(policy.snapshot()["stages"][0]["in_flight"])
            raise RuntimeError(event)

    policy = Policy("observed", observers=[observer]).with_concurrency(1, max_queue=0)
    first = asyncio.create_task(policy.call(scripted(takes(5, "first"))))
    await asyncio.sleep(1)

    with pytest.raises(ConcurrencyLimitedError):
        await policy.call(scripted("never"))

    assert seen == [1]
    assert await first == "first"


async def test_a_hook_that_blocks_holds_nobody_elses_call() -> None:
    """An on_retry that waits for long keeps no permit; others go on meanwhile."""

    async def on_retry(_attempt: int, _failure: Exception) -> None:
        await asyncio.sleep(1000)

    policy = Policy("hook").with_retry(attempts=2, wait=0, on_retry=on_retry).with_concurrency(1)
    slow = asyncio.create_task(policy.call(scripted(TryAgain, "slow")))
    await asyncio.sleep(1)

    assert await policy.call(scripted("meanwhile")) == "meanwhile"
    assert now() == 1
    assert await slow == "slow"


# Rule 26

BUILDERS: dict[str, Callable[[Any], Policy]] = {
    "timeout: 'seconds'": lambda value: Policy("p").with_timeout(value),
    "retry: 'attempts'": lambda value: Policy("p").with_retry(attempts=value, stop=1),
    "retry: 'wait'": lambda value: Policy("p").with_retry(wait=value),
    "retry: 'stop'": lambda value: Policy("p").with_retry(stop=value),
    "retry: 'max_server_delay'": lambda value: Policy("p").with_retry(max_server_delay=value),
    "rate_limit: 'rate'": lambda value: Policy("p").with_rate(value),
    "rate_limit: 'burst'": lambda value: Policy("p").with_rate(1, burst=value),
    "rate_limit: 'cost'": lambda value: Policy("p").with_rate(1, cost=value),
    "rate_limit: 'max_wait'": lambda value: Policy("p").with_rate(1, max_wait=value),
    "breaker: 'failures'": lambda value: Policy("p").with_breaker(value),
    "breaker: 'recover_after'": lambda value: Policy("p").with_breaker(1, value),
    "breaker: 'failure_ratio'": lambda value: Policy("p").with_breaker(failure_ratio=value),
    "concurrency: 'limit'": lambda value: Policy("p").with_concurrency(value),
    "concurrency: 'max_queue'": lambda value: Policy("p").with_concurrency(1, max_queue=value),
    "concurrency: 'max_wait'": lambda value: Policy("p").with_concurrency(1, max_wait=value),
    "budget: 'ratio'": lambda value: Policy("p").with_budget(ratio=value),
    "using: 'timeout'": lambda value: Policy("p").using(timeout=value),
    "using: 'attempts'": lambda value: Policy("p").using(attempts=value),
    "using: 'cost'": lambda value: Policy("p").using(cost=value),
}


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), True, "many", [], object()])
@pytest.mark.parametrize("field", BUILDERS)
def test_a_value_that_is_not_allowed_is_refused_when_it_is_built(field: str, value: Any) -> None:
    """The error names the field and the value, and says what is allowed."""
    with pytest.raises(ConfigError, match="must be") as caught:
        BUILDERS[field](value)

    assert str(caught.value).startswith(field)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("name", ["", "  ", None, 7])
def test_a_policy_needs_a_name(name: Any) -> None:
    """Messages and events are of little use without one."""
    with pytest.raises(ConfigError, match="'name' must be a text that is not empty"):
        Policy(name)


def test_an_unknown_option_is_refused() -> None:
    """A misspelled option never passes in silence."""
    with pytest.raises(TypeError, match="recover_afterwards"):
        Policy("p").with_breaker(5, recover_afterwards=3)


# Rule 27


def steps_of(work: Callable[[], object]) -> int:
    """Count the function calls that a piece of work makes, in Python and in C."""
    count = 0

    def profile(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        if event in {"call", "c_call"}:
            count += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def ended_in_reverse(calls: int) -> None:
    """Make so many calls at once that the last one to begin is the first to end."""
    policy = Policy("flat").with_timeout(10**6).with_rate(10**9).with_concurrency(10**6)

    async def main() -> None:
        await asyncio.gather(*(policy.call(asyncio.sleep, calls - n) for n in range(calls)))

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


def test_calls_that_end_in_reverse_order_cost_no_more_each_when_they_are_many() -> None:
    """Eight times the calls are about eight times the steps."""
    few = steps_of(lambda: ended_in_reverse(500))
    many = steps_of(lambda: ended_in_reverse(4000))

    assert many <= 8 * few * 1.1


def window_of(entries: int) -> RateLimit:
    """Return a sliding window that holds so many starts."""
    limit = RateLimit(RateLimitOptions(rate=f"{entries}/h"))
    for _ in range(entries):
        assert limit.try_acquire()
    return limit


def test_a_window_with_100_000_entries_is_as_cheap_as_a_small_one() -> None:
    """Asking a full window looks at its ends, not at its entries."""
    small, large = window_of(10), window_of(100_000)

    assert steps_of(large.try_acquire) <= steps_of(small.try_acquire)


async def test_nothing_idle_polls() -> None:
    """A day in which calls wait and a circuit is open takes a handful of loop steps."""
    policy = Policy("idle").with_rate("2/d").with_breaker(1, recover_after=1000)
    gate = Policy("gate").with_concurrency(1).with_timeout(10**6)
    with pytest.raises(ConnectionError):
        await policy.call(scripted(ConnectionError))
    holder = asyncio.create_task(gate.call(asyncio.sleep, 10**5))
    waiting = [asyncio.create_task(gate.call(scripted(then="done"))) for _ in range(10)]
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    await asyncio.sleep(1)
    before = loop.steps

    await asyncio.sleep(86_400)

    assert loop.steps - before <= 5
    await asyncio.gather(holder, *waiting)


# Rule 28


async def test_every_refusal_and_every_end_of_retrying_is_an_event_with_its_reason() -> None:
    """Stage and kind of a refusal, the reason of a stop, the failure behind a fallback."""
    log = EventLog()
    policy = (
        Policy("told", observers=[log])
        .with_fallback(value="instead")
        .with_retry(attempts=2, wait=0)
        .with_rate("1/min", max_wait=0)
        .with_concurrency(1)
    )
    work = scripted(ConnectionError)

    result = await policy.call(work)

    assert result == "instead"
    assert log.only(CallRejected).stage == "rate_limit"
    assert log.only(CallRejected).retry_after == 60
    assert log.only(RetryStopped).reason == "attempts spent"
    assert log.only(FallbackUsed).error_type == "RateLimitedError"


async def test_a_failure_that_is_swallowed_is_an_event_and_a_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a hook raises changes nothing for the caller, and is not lost either."""

    def on_retry(_attempt: int, _failure: Exception) -> None:
        raise LookupError("lost in the hook")

    log = EventLog()
    policy = Policy("told", observers=[log]).with_retry(attempts=2, wait=0, on_retry=on_retry)

    with caplog.at_level(logging.ERROR, logger="penstock"):
        await policy.call(scripted(TryAgain, "done"))

    assert log.only(HookFailed) == HookFailed(
        policy="told", at=log.only(HookFailed).at, hook="on_retry", error_type="LookupError"
    )
    assert "policy 'told': on_retry raised" in caplog.text
    assert "lost in the hook" in caplog.text


async def test_an_attempt_that_is_cut_off_says_after_how_long() -> None:
    """The error that reaches the caller has the limit; so has the event."""
    log = EventLog()
    policy = Policy("told", observers=[log]).with_timeout(3)

    with pytest.raises(CallTimeoutError, match=r"the call timed out after 3 s"):
        await policy.call(scripted(takes(10)))

    assert "CallTimedOut" in log.names()


async def test_back_off_is_clamped_after_jitter_at_attempt_10_000() -> None:
    """Rule 16 over a whole policy: ten thousand pauses, none above the limit."""
    pauses: list[float] = []
    wait = Exponential(initial=1, max=30, jitter=0.5)
    policy = Policy("long").with_retry(attempts=10_000, wait=wait, seed=7)
    work = scripted(then=TryAgain)

    with pytest.raises(TryAgain):
        await policy.call(work)
    pauses += [b - a for a, b in zip(work.times, work.times[1:], strict=False)]

    assert len(pauses) == 9_999
    assert max(pauses) <= 30 + 1e-6
    assert min(pauses[10:]) >= 15 - 1e-6
