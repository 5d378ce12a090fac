from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock import ConcurrencyLimitedError, ConfigError, Policy, PolicyError
from penstock.events import CallRejected, WaitEnded
from penstock.stages.concurrency.machine import Admission, ConcurrencyMachine
from penstock.stages.concurrency.options import ConcurrencyOptions
from penstock.stages.concurrency.stage import Concurrency
from penstock.testing import (
    EventLog,
    Sweep,
    VirtualTimeLoop,
    cancel_sweep,
    run,
    scripted,
    takes,
)
from penstock.waitlist import Waiter, WaiterState

pytestmark = pytest.mark.virtual_time


# The machine


def test_permits_are_given_up_to_the_limit() -> None:
    """The call after the last permit has to wait."""
    machine = ConcurrencyMachine(limit=2)

    answers = [machine.admit() for _ in range(3)]

    assert answers == [Admission.ADMITTED, Admission.ADMITTED, Admission.MUST_WAIT]
    assert machine.in_flight == 2


def test_a_full_queue_takes_nobody() -> None:
    """The caller is told so instead of being parked."""
    machine = ConcurrencyMachine(limit=1, max_queue=1)
    machine.admit()
    machine.park()

    assert machine.admit() is Admission.QUEUE_FULL


def test_a_queue_of_zero_means_that_nobody_waits() -> None:
    """Without room in the queue a busy stage refuses at once."""
    machine = ConcurrencyMachine(limit=1, max_queue=0)

    assert [machine.admit(), machine.admit()] == [Admission.ADMITTED, Admission.QUEUE_FULL]


def test_a_released_permit_is_handed_on() -> None:
    """Nobody who comes later can take it: it never lies about."""
    machine = ConcurrencyMachine(limit=1)
    machine.admit()
    waiter = machine.park()

    granted = machine.release(machine.generation)

    assert granted is waiter
    assert machine.in_flight == 1
    assert machine.admit() is Admission.MUST_WAIT


def test_a_permit_that_nobody_waits_for_is_free() -> None:
    """The next call takes it."""
    machine = ConcurrencyMachine(limit=1)
    machine.admit()

    granted = machine.release(machine.generation)

    assert granted is None
    assert machine.admit() is Admission.ADMITTED


def test_an_abandoned_place_makes_room_in_the_queue() -> None:
    """Whoever gives up does not count against ``max_queue``."""
    machine = ConcurrencyMachine(limit=1, max_queue=1)
    machine.admit()
    waiter = machine.park()

    left = machine.abandon(waiter)

    assert left is True
    assert machine.admit() is Admission.MUST_WAIT


def test_a_raised_limit_serves_those_who_wait() -> None:
    """As many as the new limit has room for, in order."""
    machine = ConcurrencyMachine(limit=1)
    machine.admit()
    first, second, third = machine.park(), machine.park(), machine.park()

    granted = machine.resize(3)

    assert granted == [first, second]
    assert machine.in_flight == 3
    assert third.state is WaiterState.PARKED


def test_a_lowered_limit_takes_nothing_away() -> None:
    """Permits above the new limit are not handed on when they come back."""
    machine = ConcurrencyMachine(limit=3)
    for _ in range(3):
        machine.admit()
    waiter = machine.park()

    none = machine.resize(1)
    released = [machine.release(machine.generation) for _ in range(3)]

    assert none == []
    assert released == [None, None, waiter]
    assert machine.in_flight == 1


def test_what_is_forfeited_is_not_released_again() -> None:
    """A permit of a loop that is gone belongs to an older generation and moves nothing."""
    machine = ConcurrencyMachine(limit=1)
    machine.admit()
    old = machine.generation
    waiter = machine.park()

    machine.forfeit()
    admitted = machine.admit()
    released = machine.release(old)

    assert admitted is Admission.ADMITTED
    assert released is None
    assert machine.in_flight == 1
    assert waiter.state is WaiterState.ABANDONED


class ConcurrencyModel(RuleBasedStateMachine):
    """The machine against lists: who holds a permit, who waits, in which order."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = ConcurrencyMachine(limit=2, max_queue=5)
        self.holders: list[int] = []
        self.ghosts: list[int] = []
        self.line: list[Waiter] = []

    @rule(priority=st.integers(-1, 1))
    def come(self, priority: int) -> None:
        """Ask for a permit, and wait if that is the answer."""
        busy = len(self.holders) >= self.machine.limit
        answer = self.machine.admit()
        if not busy:
            assert answer is Admission.ADMITTED
            self.holders.append(self.machine.generation)
        elif len(self.line) == 5:
            assert answer is Admission.QUEUE_FULL
        else:
            assert answer is Admission.MUST_WAIT
            self.line.append(self.machine.park(priority))
            self.line.sort(key=lambda waiter: -waiter.priority)

    @precondition(lambda self: self.holders)
    @rule()
    def go(self) -> None:
        """Give a permit back."""
        too_many = len(self.holders) > self.machine.limit
        woken = self.machine.release(self.holders.pop())
        if too_many or not self.line:
            assert woken is None
        else:
            assert woken is self.line.pop(0)
            self.holders.append(self.machine.generation)

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """Leave the line."""
        waiter = self.line.pop(data.draw(st.integers(0, len(self.line) - 1)))
        assert self.machine.abandon(waiter) is True

    @precondition(lambda self: self.line and len(self.holders) <= self.machine.limit)
    @rule()
    def give_up_too_late(self) -> None:
        """Be cancelled in the step of the grant: the permit goes on to the next."""
        assert self.holders
        self.machine.release(self.holders.pop())
        waiter = self.line.pop(0)
        assert self.machine.abandon(waiter) is False
        self.holders.append(self.machine.generation)
        self.go()

    @rule(limit=st.integers(1, 5))
    def resize(self, limit: int) -> None:
        """Change the limit."""
        free = max(0, limit - len(self.holders))
        granted = self.machine.resize(limit)
        assert granted == self.line[:free]
        del self.line[:free]
        self.holders.extend(self.machine.generation for _ in granted)

    @rule()
    def forfeit(self) -> None:
        """Lose the loop."""
        self.machine.forfeit()
        self.ghosts += self.holders
        self.holders, self.line = [], []

    @precondition(lambda self: self.ghosts)
    @rule()
    def ghost_goes(self) -> None:
        """Release what was forfeited."""
        assert self.machine.release(self.ghosts.pop()) is None

    @invariant()
    def conserves_permits(self) -> None:
        """Every permit is in exactly one hand."""
        assert self.machine.in_flight == len(self.holders)
        assert self.machine.queued == len(self.line) == len(self.machine._waiting)

    @invariant()
    def never_waits_beside_a_free_permit(self) -> None:
        """What the shortcut in the stage rests on."""
        assert not self.line or self.machine.in_flight >= self.machine.limit


TestConcurrencyModel = ConcurrencyModel.TestCase
TestConcurrencyModel.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


# The options


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit", 0),
        ("limit", 2.5),
        ("limit", True),
        ("limit", None),
        ("limit", float("inf")),
        ("max_queue", -1),
        ("max_queue", 1.0),
        ("max_wait", -0.1),
        ("max_wait", float("nan")),
    ],
)
def test_a_bad_option_is_refused_when_it_is_built(field: str, value: Any) -> None:
    """The error names the field and the value."""
    with pytest.raises(ConfigError, match=f"concurrency: '{field}' must be .*; got {value!r}"):
        ConcurrencyOptions(**{"limit": 1, field: value})


# The stage


def _stage_of(policy: Policy) -> Concurrency:
    (stage,) = policy.stages
    assert isinstance(stage, Concurrency)
    return stage


def _books(policy: Policy) -> tuple[int, int]:
    facts = _stage_of(policy).snapshot()
    return facts["in_flight"], facts["waiting"]


def _start(*calls: Awaitable[Any]) -> list[asyncio.Future[Any]]:
    return [asyncio.ensure_future(call) for call in calls]


async def test_at_most_limit_calls_are_under_way() -> None:
    """Ten calls of a second each take four seconds three at a time."""
    policy = Policy("t").with_concurrency(3)
    search = scripted(then=takes(1, "ok"))

    results = await asyncio.gather(*(policy.call(search) for _ in range(10)))

    assert results == ["ok"] * 10
    assert search.most_in_flight == 3
    assert asyncio.get_running_loop().time() == 4
    assert _books(policy) == (0, 0)


async def test_calls_are_served_in_the_order_they_came() -> None:
    """First come, first served."""
    policy = Policy("t").with_concurrency(2)
    search = scripted(then=takes(1))

    await asyncio.gather(*(policy.call(search, number) for number in range(20)))

    assert [call.args for call in search.calls] == [(number,) for number in range(20)]


async def test_a_higher_priority_is_served_first() -> None:
    """Among those who wait; nobody under way is stopped for it."""
    policy = Policy("t").with_concurrency(1)
    search = scripted(then=takes(1))

    await asyncio.gather(
        policy.call(search, "under way"),
        policy.call(search, "normal"),
        policy.using(priority=-1).call(search, "low"),
        policy.using(priority=5).call(search, "high"),
        policy.call(search, "normal too"),
    )

    order = [call.args[0] for call in search.calls]
    assert order == ["under way", "high", "normal", "normal too", "low"]


async def test_a_newcomer_does_not_overtake_whoever_was_just_granted() -> None:
    """A call that arrives in the step of a release stands at the end of the line."""
    policy = Policy("t").with_concurrency(1)
    order: list[str] = []

    async def work(name: str) -> None:
        order.append(name)
        await asyncio.sleep(1)
        if name == "first":
            tasks.extend(_start(policy.call(work, "newcomer")))

    tasks = _start(policy.call(work, "first"), policy.call(work, "second"))
    await asyncio.sleep(10)

    assert order == ["first", "second", "newcomer"]


async def test_a_failure_gives_the_permit_back() -> None:
    """The operation's own error passes unchanged."""
    policy = Policy("t").with_concurrency(1)
    failure = ConnectionError("lost")

    with pytest.raises(ConnectionError) as raised:
        await policy.call(scripted(failure))

    assert raised.value is failure
    assert _books(policy) == (0, 0)


async def test_a_full_queue_refuses_with_numbers() -> None:
    """The message tells limit and queue, an event tells the observers."""
    log = EventLog()
    policy = Policy("search", observers=[log]).with_concurrency(1, max_queue=1)
    search = scripted(then=takes(1))
    tasks = _start(policy.call(search), policy.call(search))
    await asyncio.sleep(0)

    with pytest.raises(ConcurrencyLimitedError) as refusal:
        await policy.call(search)
    await asyncio.gather(*tasks)

    assert str(refusal.value) == (
        "policy 'search': all 1 permits are taken and 1 calls wait already"
    )
    assert log.only(CallRejected).stage == "concurrency"
    assert len(search.calls) == 2


async def test_a_wait_ends_when_patience_does() -> None:
    """The caller is refused after ``max_wait`` seconds and its place in line is free."""
    policy = Policy("t").with_concurrency(1, max_wait=2.5)
    search = scripted(then=takes(10))
    tasks = _start(policy.call(search))
    await asyncio.sleep(1)

    with pytest.raises(ConcurrencyLimitedError, match=r"none came free within 2\.5 s"):
        await policy.call(search)

    assert asyncio.get_running_loop().time() == 3.5
    assert _books(policy) == (1, 0)
    await asyncio.gather(*tasks)
    assert _books(policy) == (0, 0)


async def test_a_grant_in_the_step_in_which_patience_ends_counts() -> None:
    """The permit came free within the two seconds, so the call runs."""
    policy = Policy("t").with_concurrency(1, max_wait=2)
    search = scripted(then=takes(2, "ok"))

    results = await asyncio.gather(policy.call(search), policy.call(search))

    assert results == ["ok", "ok"]
    assert _books(policy) == (0, 0)


async def test_no_patience_at_all_refuses_in_the_same_instant() -> None:
    """``max_wait=0`` is a wait of nothing, not a wait without end."""
    policy = Policy("t").with_concurrency(1, max_wait=0)
    search = scripted(takes(5), "never")
    tasks = _start(policy.call(search))
    await asyncio.sleep(1)

    with pytest.raises(ConcurrencyLimitedError, match="within 0 s"):
        await policy.call(search)

    assert asyncio.get_running_loop().time() == 1
    await asyncio.gather(*tasks)


async def test_a_wait_is_told_to_observers_with_its_length() -> None:
    """A call that did not wait leaves no such event."""
    log = EventLog()
    policy = Policy("t", observers=[log]).with_concurrency(1)
    search = scripted(then=takes(3))

    await asyncio.gather(policy.call(search), policy.call(search))

    wait = log.only(WaitEnded)
    assert (wait.stage, wait.seconds, wait.at) == ("concurrency", 3, 3)


async def test_a_wait_whose_deadline_has_passed_is_not_begun() -> None:
    """A call without time left is refused and does not stand in line."""
    search = scripted(then=takes(10))
    policy = Policy("t").with_concurrency(1)

    async def late(call: Any, call_next: Any) -> Any:
        call.deadline = asyncio.get_running_loop().time()
        return await call_next(call)

    shared = Policy("u").with_stage(late).with_stage(policy.stages[0])
    tasks = _start(policy.call(search))
    await asyncio.sleep(1)

    with pytest.raises(ConcurrencyLimitedError, match="no time is left to wait"):
        await shared.call(search)

    assert _books(policy) == (1, 0)
    await asyncio.gather(*tasks)


async def test_a_timeout_outside_ends_the_wait() -> None:
    """The place in line is given up, and the permit goes to whoever still waits."""
    inner = Policy("t").with_concurrency(1)
    impatient = Policy("u").with_timeout(2).with_stage(inner.stages[0])
    search = scripted(then=takes(5, "ok"))
    tasks = _start(inner.call(search), impatient.call(search), inner.call(search))

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(results[1], TimeoutError)
    assert [results[0], results[2]] == ["ok", "ok"]
    assert asyncio.get_running_loop().time() == 10
    assert _books(inner) == (0, 0)


async def test_a_raised_limit_serves_the_waiting_at_once() -> None:
    """No call has to end first."""
    policy = Policy("t").with_concurrency(1)
    search = scripted(then=takes(10))
    tasks = _start(*(policy.call(search) for _ in range(4)))
    await asyncio.sleep(1)

    _stage_of(policy).resize(3)
    await asyncio.gather(*tasks)

    assert search.times == [0, 1, 1, 10]
    assert _stage_of(policy).snapshot() == {
        "stage": "concurrency",
        "limit": 3,
        "in_flight": 0,
        "waiting": 0,
    }


async def test_a_lowered_limit_lets_calls_run_out() -> None:
    """Nobody is stopped; fewer follow."""
    policy = Policy("t").with_concurrency(3)
    search = scripted(then=takes(1))
    tasks = _start(*(policy.call(search) for _ in range(6)))
    await asyncio.sleep(0)

    _stage_of(policy).resize(1)
    await asyncio.gather(*tasks)

    assert search.times == [0, 0, 0, 1, 2, 3]


@pytest.mark.parametrize("limit", [0, -1, 1.5, None])
async def test_a_bad_limit_is_refused_while_running(limit: Any) -> None:
    """The old limit stays."""
    policy = Policy("t").with_concurrency(2)

    with pytest.raises(ConfigError, match="'limit' must be a whole number of at least 1"):
        _stage_of(policy).resize(limit)

    assert _stage_of(policy).snapshot()["limit"] == 2


async def test_a_fresh_stage_has_the_options_and_not_the_state() -> None:
    """The copy's permits are its own."""
    policy = Policy("t").with_concurrency(1)
    search = scripted(then=takes(1))

    await asyncio.gather(policy.call(search), policy.fresh().call(search))

    assert search.times == [0, 0]


async def test_a_thread_that_cannot_be_cancelled_keeps_its_permit() -> None:
    """A plain function goes on in its thread after its caller has left; so does its permit."""
    policy = Policy("t").with_concurrency(1)
    gate, started = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        gate.wait(5)

    caller = asyncio.ensure_future(policy.call(work))
    await asyncio.to_thread(started.wait, 5)
    caller.cancel()
    await asyncio.wait([caller])
    while_running = _books(policy)
    gate.set()
    await policy.call(scripted("next"))

    assert caller.cancelled()
    assert while_running == (1, 0)
    assert _books(policy) == (0, 0)


# Cancellation


@pytest.mark.parametrize("max_wait", [None, 1, 2.5])
def test_a_cancel_at_any_point_loses_no_permit(max_wait: float | None) -> None:
    """Cancelled in line, in the step of the grant, in its work: the books balance."""

    async def scenario(sweep: Sweep) -> Policy:
        policy = Policy("t").with_concurrency(1, max_wait=max_wait)
        search = scripted(then=takes(1))
        sweep.beside(policy.call(search))
        sweep.victim(policy.call(search))
        sweep.beside(policy.fresh().call(search))
        return policy

    def check(policy: Policy) -> None:
        assert _books(policy) == (0, 0)

    assert cancel_sweep(scenario, check) >= 8


def test_a_cancel_at_any_point_passes_the_permit_to_the_next() -> None:
    """Whoever stands behind the victim is served whatever happens to the victim."""

    async def scenario(sweep: Sweep) -> Policy:
        policy = Policy("t").with_concurrency(1)
        search = scripted(then=takes(1))
        sweep.beside(policy.call(search))
        sweep.victim(policy.call(search))
        sweep.beside(policy.call(search), policy.call(search))
        return policy

    async def check(policy: Policy) -> None:
        assert _books(policy) == (0, 0)
        await policy.call(scripted("the permit can be taken"))

    cancel_sweep(scenario, check)


def test_a_cancel_at_any_point_survives_a_resize() -> None:
    """The grant may come from a raised limit as well."""

    async def scenario(sweep: Sweep) -> Policy:
        policy = Policy("t").with_concurrency(1)
        search = scripted(then=takes(2))

        async def resize() -> None:
            await asyncio.sleep(1)
            _stage_of(policy).resize(2)

        sweep.beside(policy.call(search), resize())
        sweep.victim(policy.call(search))
        sweep.beside(policy.call(search))
        return policy

    def check(policy: Policy) -> None:
        assert _books(policy) == (0, 0)

    cancel_sweep(scenario, check)


# Loops


def test_one_policy_serves_one_loop_after_another() -> None:
    """The limit holds in the second loop as it did in the first."""
    policy = Policy("t").with_concurrency(2)
    search = scripted(then=takes(1))

    async def main() -> None:
        await asyncio.gather(*(policy.call(search) for _ in range(6)))

    for _ in range(3):
        run(main())

    assert search.most_in_flight == 2
    assert search.times == [0, 0, 1, 1, 2, 2] * 3
    assert _books(policy) == (0, 0)


def _die_with_calls_under_way(policy: Policy, calls: int) -> list[Any]:
    """Close a loop without a word to its tasks; return them, so that nothing collects them."""
    loop = VirtualTimeLoop()
    never = scripted(then=takes(1000))
    tasks = [loop.create_task(policy.call(never)) for _ in range(calls)]
    loop.call_later(1, loop.stop)
    loop.run_forever()
    for task in tasks:
        task._log_destroy_pending = False
    loop.close()
    return tasks


def test_permits_held_by_a_dead_loop_come_back() -> None:
    """A loop that was closed in the middle of its calls does not starve the next."""
    policy = Policy("t").with_concurrency(2)
    search = scripted(then=takes(1))
    tasks = _die_with_calls_under_way(policy, calls=5)
    before = _books(policy)

    async def main() -> None:
        await asyncio.gather(*(policy.call(search) for _ in range(4)))

    run(main())

    assert before == (2, 3)
    assert search.times == [0, 0, 1, 1]
    assert _books(policy) == (0, 0)
    assert len(tasks) == 5


def test_a_task_of_a_dead_loop_that_is_collected_moves_nothing() -> None:
    """Its ``finally`` block gives back a permit that has been forfeited before."""
    policy = Policy("t").with_concurrency(1)
    search = scripted(then=takes(1))
    tasks = _die_with_calls_under_way(policy, calls=1)

    async def main() -> tuple[int, int]:
        call = asyncio.ensure_future(policy.call(search))
        await asyncio.sleep(0)
        tasks.clear()
        gc.collect()
        books = _books(policy)
        await call
        return books

    assert run(main()) == (1, 0)
    assert _books(policy) == (0, 0)


async def test_two_running_loops_are_refused() -> None:
    """The second loop gets an error with advice; the first goes on undisturbed."""
    policy = Policy("t").with_concurrency(1)
    search = scripted(then=takes(5, "ok"))
    tasks = _start(policy.call(search), policy.call(search))
    await asyncio.sleep(1)

    def in_a_thread() -> None:
        run(policy.call(scripted("never")))

    with pytest.raises(PolicyError, match=r"another running event loop.*policy\.fresh\(\)"):
        await asyncio.to_thread(in_a_thread)

    assert _books(policy) == (1, 1)
    assert await asyncio.gather(*tasks) == ["ok", "ok"]
