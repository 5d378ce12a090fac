from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock import clock
from penstock.errors import BudgetExhaustedError, ConfigError, PolicyError
from penstock.policy import Policy
from penstock.stages.budget import Budget, BudgetOptions
from penstock.stages.budget.machine import BudgetMachine
from penstock.testing import cancel_sweep, scripted

pytestmark = pytest.mark.virtual_time


def spend_all(machine, now):
    """Spend until the budget refuses; return how often it paid."""
    paid = 0
    while machine.spend(now):
        paid += 1
    return paid


def test_the_floor_is_there_without_any_call():
    """Two per second over ten seconds: twenty at once, then none."""
    machine = BudgetMachine(ratio=0.2, min_per_second=2, window=10)

    assert spend_all(machine, 100.0) == 20
    assert machine.balance(100.0) == 0


@pytest.mark.parametrize(("ratio", "calls", "added"), [(0.2, 50, 10), (0.29, 100, 29), (1.0, 3, 3)])
def test_every_call_earns_its_share(ratio, calls, added):
    """29 % of a hundred calls are 29 attempts, whatever floats make of 0.29."""
    machine = BudgetMachine(ratio=ratio, min_per_second=0, window=10)

    for _ in range(calls):
        machine.deposit(5.0)

    assert spend_all(machine, 5.0) == added


def test_calls_and_payments_leave_the_window():
    """After the window everything is as at the start."""
    machine = BudgetMachine(ratio=0.5, min_per_second=1, window=10)
    for _ in range(10):
        machine.deposit(0.0)
    assert spend_all(machine, 0.0) == 15

    assert spend_all(machine, 9.9) == 0
    assert machine.balance(11.2) == 10
    assert (machine.calls, machine.spent) == (0, 0)


def test_payments_leave_slice_by_slice():
    """What was spent early comes back early."""
    machine = BudgetMachine(ratio=0, min_per_second=1, window=9)
    for second in range(9):
        assert machine.spend(float(second))

    assert not machine.spend(9.5)
    assert spend_all(machine, 10.0) == 1
    assert spend_all(machine, 12.5) == 2


def test_a_long_silence_is_forgotten_in_one_step():
    """Ages later nothing of the past counts, and nobody counts slices until then."""
    machine = BudgetMachine(ratio=1, min_per_second=1, window=9)
    machine.deposit(0.0)
    machine.spend(0.0)

    assert machine.balance(1e12) == 9
    machine.deposit(1e12)
    assert machine.balance(1e12 + 0.5) == 10


def test_a_floor_below_one_per_window_lengthens_the_window():
    """One in a hundred seconds means one, and then none for a hundred seconds."""
    machine = BudgetMachine(ratio=0, min_per_second=0.01, window=10)

    assert spend_all(machine, 0.0) == 1
    assert not machine.spend(99.0)
    assert spend_all(machine, 112.0) == 1


def test_a_refund_can_be_spent_again():
    """The attempt was not made, so it does not weigh."""
    machine = BudgetMachine(ratio=0, min_per_second=1, window=9)
    spend_all(machine, 0.0)

    machine.refund()

    assert spend_all(machine, 3.0) == 1


def test_a_refund_for_what_has_left_the_window_changes_nothing():
    """Nothing may be earned by giving back late."""
    machine = BudgetMachine(ratio=0, min_per_second=1, window=9)
    machine.spend(0.0)
    assert machine.balance(60.0) == 9

    machine.refund()

    assert machine.balance(60.0) == 9


def test_room_comes_when_the_oldest_payment_leaves():
    """The hint of a refusal is the second in which trying again can help."""
    machine = BudgetMachine(ratio=0, min_per_second=1, window=9)
    assert machine.seconds_until_room(0.0) is None
    machine.spend(0.0)
    spend_all(machine, 4.0)

    seconds = machine.seconds_until_room(5.0)

    assert seconds == 5
    assert not machine.spend(5.0 + seconds - 0.01)
    assert machine.spend(5.0 + seconds)


class BudgetRules(RuleBasedStateMachine):
    """The machine against a list of everything that happened."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = BudgetMachine(ratio=0.3, min_per_second=0.5, window=9)
        self.now = 0.0
        self.calls: list[float] = []
        self.payments: list[float] = []

    @rule(seconds=st.floats(0, 4))
    def wait(self, seconds):
        """Let time pass."""
        self.now += seconds

    @rule(count=st.integers(1, 20))
    def call(self, count):
        """Make calls."""
        for _ in range(count):
            self.machine.deposit(self.now)
        self.calls += [self.now] * count

    @rule()
    def spend(self):
        """Pay if the budget lets us; it must when calls and floor clearly allow it."""
        if self.machine.spend(self.now):
            self.payments.append(self.now)
        else:
            assert self.machine.balance(self.now) < 1

    @precondition(lambda self: self.payments and self.payments[-1] == self.now)
    @rule()
    def refund(self):
        """Give the payment of this instant back."""
        self.machine.refund()
        self.payments.pop()

    @invariant()
    def no_window_is_overspent(self):
        """In no window more than the floor and the share of the calls that can count."""
        spent = sum(at > self.now - 9 for at in self.payments)
        counted = sum(at > self.now - 19.01 for at in self.calls)
        assert spent <= 4.5 + 0.3 * counted + 1e-6

    @invariant()
    def the_sums_are_the_slices(self):
        """Totals are kept beside the slices and must not drift."""
        assert self.machine.calls == sum(self.machine._calls)
        assert self.machine.spent == sum(self.machine._spent) >= 0
        assert min(self.machine._calls + self.machine._spent) >= 0


TestBudgetRules = BudgetRules.TestCase
TestBudgetRules.settings = settings(deadline=None)


def failing(**budget):
    """Return a policy whose retries are paid from a budget."""
    return Policy("p").with_budget(**budget).with_retry(attempts=5, wait=1)


async def test_retries_stop_when_the_budget_is_spent():
    """The last failure comes at once, with a note that says why."""
    policy = failing(ratio=0, min_per_second=0.2, window=10)
    operation = scripted(then=ConnectionError("down"))
    began = clock.now()

    with pytest.raises(ConnectionError) as caught:
        await policy.call(operation)

    assert len(operation.times) == 3
    assert clock.now() - began == 2
    assert caught.value.__notes__ == [
        "penstock: gave up after 3 attempts in 2.000 s: retry budget is spent"
    ]


async def test_calls_earn_retries():
    """Ten successes at a share of a tenth pay for one retry, not for two."""
    policy = failing(ratio=0.1, min_per_second=0)
    for _ in range(9):
        await policy.call(scripted("ok"))
    operation = scripted(then=ConnectionError)

    with pytest.raises(ConnectionError):
        await policy.call(operation)

    assert len(operation.times) == 2


async def test_policies_that_share_a_budget_share_what_there_is():
    """What one spends is missing to the other."""
    budget = Budget(BudgetOptions(ratio=0, min_per_second=0.2, window=10))
    first = Policy("first").with_stage(budget).with_retry(attempts=3, wait=0)
    second = Policy("second").with_stage(budget).with_retry(attempts=3, wait=0)
    operation = scripted(then=ConnectionError)

    with pytest.raises(ConnectionError):
        await first.call(scripted(then=ConnectionError))
    with pytest.raises(ConnectionError):
        await second.call(operation)

    assert len(operation.times) == 1


async def test_the_call_forgets_the_budget_on_the_way_out():
    """A stage outside of the budget must not pay into it."""
    seen = []

    async def outer(call, call_next):
        try:
            return await call_next(call)
        finally:
            seen.append(call.budget)

    async def inner(call, call_next):
        seen.append(call.budget)
        return await call_next(call)

    budget = Budget(BudgetOptions())
    policy = Policy("p").with_stage(outer).with_stage(budget).with_stage(inner)

    await policy.call(scripted("ok"))

    assert seen == [budget, None]


def test_a_cancelled_back_off_gives_its_payment_back():
    """Wherever the call is cancelled: only attempts that were begun are paid for."""

    async def scenario(sweep):
        budget = Budget(BudgetOptions(ratio=0, min_per_second=1, window=10))
        policy = Policy("p").with_stage(budget).with_retry(attempts=3, wait=1)
        operation = scripted(ConnectionError, ConnectionError, "ok")
        sweep.victim(policy.call(operation))
        return budget, operation

    def check(outcome):
        budget, operation = outcome
        assert budget.snapshot()["spent"] == max(0, len(operation.times) - 1)

    assert cancel_sweep(scenario, check) > 0


async def test_own_code_can_pay_for_what_it_adds():
    """`spend` raises, with the time of the next chance."""
    budget = Budget(BudgetOptions(ratio=0, min_per_second=0.1, window=9))
    budget.spend()

    with pytest.raises(BudgetExhaustedError, match=r"0% of the calls plus 0\.1 per") as caught:
        budget.spend()

    await asyncio.sleep(caught.value.retry_after)
    budget.spend()


async def test_the_snapshot_shows_calls_payments_and_what_is_left():
    """Plain numbers, no object."""
    policy = failing(ratio=0.5, min_per_second=1, window=10)
    await policy.call(scripted(ConnectionError, "ok"))

    assert policy.stages[0].snapshot() == {"stage": "budget", "calls": 1, "spent": 1, "left": 9.5}
    assert policy.fresh().stages[0].snapshot() == {
        "stage": "budget",
        "calls": 0,
        "spent": 0,
        "left": 10.0,
    }


async def test_two_running_loops_cannot_use_one_budget():
    """Its counts are not made for two threads at once."""
    policy = Policy("p").with_budget()
    await policy.call(scripted("ok"))

    def in_another_thread():
        with asyncio.Runner() as runner, pytest.raises(PolicyError, match="another running"):
            runner.run(policy.call(scripted("ok")))

    await asyncio.to_thread(in_another_thread)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ratio", -0.1),
        ("ratio", 1.1),
        ("ratio", math.nan),
        ("ratio", "20%"),
        ("min_per_second", -1),
        ("min_per_second", math.inf),
        ("window", 0),
        ("window", math.nan),
    ],
)
def test_bad_options_are_refused(field, value):
    """The error names the field, the value and what is allowed."""
    with pytest.raises(ConfigError, match=rf"budget: '{field}' must be .+; got {value!r}"):
        BudgetOptions(**{field: value})


def test_a_budget_that_never_holds_anything_is_refused():
    """No share and no floor would forbid every retry: leave retry out instead."""
    with pytest.raises(ConfigError, match="'ratio' must be above 0 where 'min_per_second' is 0"):
        BudgetOptions(ratio=0, min_per_second=0)
