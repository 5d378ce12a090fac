"""The timeout stage: its deadlines, its cancels, and asyncio.timeout as the oracle."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from penstock import CallTimeoutError, ConfigError, Policy
from penstock.events import AttemptEnded, CallTimedOut
from penstock.stages.timeout import TimeoutOptions
from penstock.stages.timeout.machine import EXPIRED, LEFT, RUNNING, TimeoutMachine, Watch
from penstock.testing import EventLog, Sweep, cancel_sweep, run, scripted, takes

pytestmark = pytest.mark.virtual_time


# --- options and machine ---------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "5", None])
def test_a_limit_that_is_not_a_positive_number_of_seconds_is_refused(seconds: Any):
    """The error names the stage, the field and the value."""
    with pytest.raises(ConfigError, match=r"^timeout: 'seconds' must be a finite .* above 0; got "):
        TimeoutOptions(seconds=seconds)


def test_a_timedelta_is_taken_as_seconds():
    """Durations may be written either way."""
    assert TimeoutOptions(seconds=timedelta(minutes=1)).seconds == 60


def _watch(at: float) -> Watch:
    return Watch(at, SimpleNamespace(attempts_inside=False), None, 0)


def test_a_deadline_expires_when_it_has_come_and_not_before():
    """The boundary itself counts as passed."""
    machine = TimeoutMachine()
    watch = _watch(5.0)
    machine.add(watch)

    assert machine.expire(4.999) == []
    assert machine.expire(5.0) == [watch]
    assert watch.state is EXPIRED


def test_a_deadline_that_comes_out_of_order_expires_first():
    """Calls with limits of their own do not wait behind the others."""
    machine = TimeoutMachine()
    late, early = _watch(10.0), _watch(3.0)
    machine.add(late)
    machine.add(early)

    assert machine.next_at() == 3.0
    assert machine.expire(10.0) == [early, late]


class Deadlines(RuleBasedStateMachine):
    """Any mixture of adding, leaving and time, against a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = TimeoutMachine()
        self.now = 0.0
        self.running: list[Watch] = []
        self.left: list[Watch] = []

    @rule(after=st.floats(0, 10))
    def add(self, after: float) -> None:
        watch = _watch(self.now + after)
        self.machine.add(watch)
        self.running.append(watch)

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.running:
            watch = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
            self.machine.leave(watch)
            self.left.append(watch)

    @rule(seconds=st.floats(0, 5))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        expired = self.machine.expire(self.now)

        assert sorted(w.at for w in expired) == [w.at for w in expired]
        assert set(map(id, expired)) == {id(w) for w in self.running if w.at <= self.now}
        self.running = [w for w in self.running if w.at > self.now]

    @invariant()
    def the_next_deadline_is_the_least_of_those_running(self) -> None:
        assert self.machine.next_at() == min((w.at for w in self.running), default=None)
        assert len(self.machine) == len(self.running)

    @invariant()
    def who_has_left_never_expires(self) -> None:
        assert all(w.state is LEFT for w in self.left)
        assert all(w.state is RUNNING for w in self.running)


TestDeadlines = Deadlines.TestCase


# --- stage -----------------------------------------------------------------------------------


async def test_a_call_that_takes_too_long_ends_in_a_timeout_error_of_the_policy():
    """It is a TimeoutError too, and knows its limit."""
    loop = asyncio.get_running_loop()
    policy = Policy("slow").with_timeout(5)

    with pytest.raises(TimeoutError, match=r"^policy 'slow': the call timed out after 5 s$") as e:
        await policy.call(scripted(takes(6)))

    assert isinstance(e.value, CallTimeoutError)
    assert e.value.seconds == 5
    assert isinstance(e.value.__cause__, asyncio.CancelledError)
    assert loop.time() == 5


async def test_a_call_that_is_in_time_returns_its_result_and_never_times_out_later():
    """A timeout that has been left never fires."""
    policy = Policy().with_timeout(5)

    result = await policy.call(scripted(takes(4, "done")))
    await asyncio.sleep(100)

    assert result == "done"
    assert policy.snapshot()["stages"][0]["running"] == 0


async def test_a_timeout_error_of_the_operation_itself_is_not_the_policys():
    """The operation's own errors pass unchanged."""
    own = TimeoutError("the operation's")

    with pytest.raises(TimeoutError) as caught:
        await Policy().with_timeout(5).call(scripted(own))

    assert caught.value is own


async def test_inside_retry_the_limit_bounds_each_attempt():
    """The message says which attempt it was."""
    operation = scripted(takes(9), takes(9), takes(1, "third"))
    policy = Policy().with_retry(3, wait=0).with_timeout(5)

    assert await policy.call(operation) == "third"
    assert operation.times == [0, 5, 10]
    with pytest.raises(CallTimeoutError, match="attempt 3 timed out after 5 s"):
        await policy.call(scripted(then=takes(9)))


async def test_the_total_limit_holds_over_all_attempts():
    """An attempt that would outlast the call is cut with it."""
    loop = asyncio.get_running_loop()
    policy = Policy().with_timeout(7).with_retry(9, wait=0).with_timeout(5)

    with pytest.raises(CallTimeoutError, match="the call timed out after 7 s"):
        await policy.call(scripted(then=takes(9)))

    assert loop.time() == 7


async def test_using_tightens_the_limit_and_never_loosens_it():
    """Views share one structure, whatever limit each of them brings."""
    loop = asyncio.get_running_loop()
    policy = Policy().with_timeout(5)

    for timeout, expected in ((9, 5), (2, 2), (3, 3)):
        began = loop.time()
        with pytest.raises(CallTimeoutError):
            await policy.using(timeout=timeout).call(scripted(takes(20)))
        assert loop.time() - began == expected


async def test_short_limits_among_long_ones_fire_in_time():
    """Deadlines that come out of order re-arm the one timer."""
    policy, ended = Policy(), dict[int, float]()
    loop = asyncio.get_running_loop()

    async def one(seconds: int) -> None:
        with pytest.raises(CallTimeoutError):
            await policy.using(timeout=seconds).call(scripted(takes(100)))
        ended[seconds] = loop.time()

    await asyncio.gather(*(one(s) for s in (9, 3, 7, 1, 8)))

    assert ended == {1: 1, 3: 3, 7: 7, 8: 8, 9: 9}


async def test_one_timer_serves_all_calls():
    """A thousand calls under way are one handle in the loop."""
    loop: Any = asyncio.get_running_loop()
    policy = Policy().with_timeout(50)
    operation = scripted(then=takes(10))

    calls = [asyncio.create_task(policy.call(operation)) for _ in range(1000)]
    await asyncio.sleep(1)
    timers = [h for h in loop._scheduled if not h.cancelled() and h.when() > 11]

    assert len(timers) == 1
    await asyncio.gather(*calls)


async def test_a_cancel_from_outside_wins_in_the_same_step_as_the_timeout():
    """The caller asked for it: it must see its own cancel."""
    policy = Policy().with_timeout(5)
    task = asyncio.create_task(policy.call(scripted(takes(100))))
    loop = asyncio.get_running_loop()
    loop.call_at(5, task.cancel)

    with pytest.raises(asyncio.CancelledError):
        await task

    assert task.cancelled()


async def test_an_operation_that_swallows_the_cancel_keeps_its_result():
    """As with asyncio.timeout; and the task's count of cancels is left as it was."""

    async def stubborn() -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return "kept"
        return "never"

    result = await Policy().with_timeout(5).call(stubborn)

    task = asyncio.current_task()
    assert result == "kept"
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(1)


async def test_a_task_that_once_swallowed_a_cancel_times_out_as_any_other():
    """Only the change of the cancelling count tells our cancel from another's."""

    async def main() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(100)
        with pytest.raises(CallTimeoutError):
            await Policy().with_timeout(5).call(scripted(takes(9)))
        return "timed out"

    task = asyncio.create_task(main())
    await asyncio.sleep(1)
    task.cancel()

    assert await task == "timed out"


async def test_a_deadline_already_passed_starts_nothing():
    """The outer deadline is handed inward."""
    operation = scripted(then="never")

    async def sleep_through(call: Any, call_next: Any) -> Any:
        call.deadline = 0.0
        return await call_next(call)

    policy = Policy().with_stage(sleep_through).with_timeout(5)
    await asyncio.sleep(1)

    with pytest.raises(CallTimeoutError):
        await policy.call(operation)
    assert operation.calls == []


async def test_the_deadline_reaches_the_stages_further_in_and_is_taken_back():
    """A custom stage can read how much time is left."""
    seen = []

    async def look(call: Any, call_next: Any) -> Any:
        seen.append(call.deadline)
        return await call_next(call)

    policy = (
        Policy().with_stage(look).with_timeout(9).with_stage(look).with_timeout(5).with_stage(look)
    )
    await policy.call(scripted("done"))

    assert seen == [None, 9, 5]


async def test_a_total_limit_still_ends_a_stream_that_is_being_read():
    """The attempt's limit ends with its first item, the call's does not."""
    policy = Policy().with_timeout(8).with_retry(2, wait=0).with_timeout(3)
    items = []

    async def numbers() -> AsyncIterator[int]:
        for number in range(100):
            await asyncio.sleep(2)
            yield number

    with pytest.raises(CallTimeoutError, match="the call timed out after 8 s"):
        async with policy.stream(numbers) as stream:
            items = [item async for item in stream]

    assert items == []
    assert asyncio.get_running_loop().time() == 8


async def test_a_timeout_is_an_event():
    """Observers learn the limit and the attempt."""
    log = EventLog()
    policy = Policy(observers=[log]).with_timeout(5)

    with pytest.raises(CallTimeoutError):
        await policy.call(scripted(takes(9)))

    assert log.only(CallTimedOut).seconds == 5


async def test_an_attempt_that_is_cut_off_is_told_as_a_timeout():
    """The operation sees a cancel; observers learn where it came from."""
    log = EventLog()
    policy = Policy(observers=[log]).with_retry(2, wait=0).with_timeout(5)

    await policy.call(scripted(takes(9), "done"))

    assert [e.verdict.value for e in log.of(AttemptEnded)] == ["timeout", "ok"]


def test_a_policy_serves_one_loop_after_another():
    """The old loop's timer does not count in the new one."""
    policy = Policy().with_timeout(5)

    for _ in range(3):

        async def main() -> None:
            with pytest.raises(CallTimeoutError):
                await policy.call(scripted(takes(9)))

        run(main())


def test_outside_of_a_task_the_error_says_what_is_missing():
    """As asyncio.timeout, it needs a task to cancel."""
    call = Policy("bare").with_timeout(5).call(scripted("never"))

    with pytest.raises(RuntimeError):
        call.send(None)


def test_cancelled_at_any_point_it_leaves_nothing_behind():
    """Cancel sweep over two timeouts round a sleep."""

    async def scenario(sweep: Sweep) -> Policy:
        policy = Policy().with_timeout(9).with_retry(2, wait=1).with_timeout(5)
        sweep.victim(policy.call(scripted(takes(6), takes(1, "done"))))
        return policy

    def check(policy: Policy) -> None:
        stages = policy.snapshot()["stages"]
        assert [s.get("running", 0) for s in stages] == [0, 0, 0]

    assert cancel_sweep(scenario, check) > 3


async def test_a_successful_call_leaves_no_reference_cycle():
    """Nothing is left to the garbage collector."""
    policy = Policy().with_timeout(5)
    operation = scripted(then="done")
    await policy.call(operation)
    gc.collect()

    for _ in range(100):
        await policy.call(operation)

    assert gc.collect() == 0


# --- asyncio.timeout as the oracle -----------------------------------------------------------

Bound = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]


async def _ours(operation: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    async def body() -> Any:
        return await operation()

    return await Policy().with_timeout(seconds).call(body)


async def _theirs(operation: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    async with asyncio.timeout(seconds):
        return await operation()


def _story(bound: Any, limits: tuple[int, int], takes_: int, cancel_at: int, mood: str) -> Any:
    limit, inner_limit = limits

    async def operation() -> str:
        try:
            await asyncio.sleep(takes_)
        except asyncio.CancelledError:
            if mood == "swallows":
                return "swallowed"
            if mood == "swallows and goes on":
                await asyncio.sleep(1)
                return "went on"
            if mood == "raises":
                raise ValueError("from the cancel") from None
            raise
        return "done"

    async def victim() -> Any:
        outcome: Any
        try:
            outcome = await bound(lambda: bound(operation, inner_limit), limit)
        except BaseException as error:  # noqa: BLE001 - every ending is compared
            outcome = "TimeoutError" if isinstance(error, TimeoutError) else type(error).__name__
        task = asyncio.current_task()
        assert task is not None
        return outcome, task.cancelling(), asyncio.get_running_loop().time()

    async def main() -> Any:
        task = asyncio.create_task(victim())
        if cancel_at:
            asyncio.get_running_loop().call_at(cancel_at, task.cancel)
        await asyncio.wait([task])
        return task.result()

    return run(main())


@given(
    limit=st.integers(1, 4),
    inner_limit=st.integers(1, 4),
    takes_=st.integers(1, 5),
    cancel_at=st.integers(0, 4),
    mood=st.sampled_from(["obeys", "swallows", "swallows and goes on", "raises"]),
)
def test_it_behaves_as_asyncio_timeout_does(
    limit: int, inner_limit: int, takes_: int, cancel_at: int, mood: str
):
    """Same outcome, same count of cancels, same time, also when all fall into one step."""
    limits = (limit, inner_limit)
    ours = _story(_ours, limits, takes_, cancel_at, mood)
    theirs = _story(_theirs, limits, takes_, cancel_at, mood)

    assert ours == theirs
