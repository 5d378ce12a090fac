from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.waitlist import Waiter, WaiterState, WaitList


def test_waiters_are_granted_in_the_order_they_came() -> None:
    """First come, first served within one priority."""
    line = WaitList()
    first, second = line.park(), line.park()

    served = [line.grant(), line.grant()]

    assert served == [first, second]


def test_a_higher_priority_is_granted_first() -> None:
    """Priority goes before arrival."""
    line = WaitList()
    low, high, middle = line.park(priority=-1), line.park(priority=5), line.park(priority=0)

    served = [line.grant(), line.grant(), line.grant()]

    assert served == [high, middle, low]


def test_nobody_is_granted_when_nobody_waits() -> None:
    """An empty line answers None."""
    line = WaitList()

    assert line.head() is None
    assert line.grant() is None


def test_the_head_stays_until_it_is_granted() -> None:
    """Looking does not serve, and the head keeps its cost for the reader to weigh."""
    line = WaitList()
    large = line.park(cost=10)
    line.park(cost=1)

    head = line.head()

    assert head is large
    assert head.cost == 10
    assert len(line) == 2


def test_a_head_that_was_looked_at_can_be_granted() -> None:
    """Without looking for it again; whoever is behind it comes next."""
    line = WaitList()
    first, second = line.park(), line.park()

    head = line.head()
    assert head is first
    line.grant_head(head)

    assert first.state is WaiterState.GRANTED
    assert len(line) == 1
    assert line.grant() is second


def test_an_abandoned_waiter_is_passed_over() -> None:
    """Whoever left is not served."""
    line = WaitList()
    leaver, stayer = line.park(), line.park()

    left = line.abandon(leaver)

    assert left is True
    assert line.grant() is stayer
    assert leaver.state is WaiterState.ABANDONED


def test_abandoning_after_the_grant_says_that_something_is_held() -> None:
    """Cancelled in the step of its grant, a waiter learns that it has something to give back."""
    line = WaitList()
    waiter = line.park()
    line.grant()

    left = line.abandon(waiter)

    assert left is False
    assert waiter.state is WaiterState.GRANTED


def test_abandoning_twice_counts_once() -> None:
    """The second time changes nothing."""
    line = WaitList()
    waiter = line.park()
    line.park()

    line.abandon(waiter)
    left = line.abandon(waiter)

    assert left is True
    assert len(line) == 1


def test_all_can_be_abandoned_at_once() -> None:
    """They come back in the order in which they would have been served."""
    line = WaitList()
    low, high = line.park(priority=0), line.park(priority=1)
    line.abandon(line.park(priority=2))

    everybody = line.abandon_all()

    assert everybody == [high, low]
    assert len(line) == 0
    assert line.grant() is None
    assert high.state is WaiterState.ABANDONED


def test_a_line_is_iterated_in_the_order_of_service() -> None:
    """Only those who still wait are seen."""
    line = WaitList()
    low, high = line.park(priority=0), line.park(priority=1)
    line.abandon(line.park(priority=1))

    assert list(line) == [high, low]


def test_the_abandoned_do_not_pile_up_behind_a_patient_head() -> None:
    """Ten thousand who give up leave no more than a handful of entries behind."""
    line = WaitList()
    patient = line.park()

    for _ in range(10_000):
        line.abandon(line.park())

    assert sum(map(len, line._lanes.values())) <= 65
    assert line.grant() is patient


def test_few_who_give_up_among_many_are_not_searched_for() -> None:
    """Clearing them out one by one would cost the length of the line each time."""
    line = WaitList()
    for _ in range(1000):
        line.park()

    for _ in range(900):
        line.abandon(line.park())

    assert sum(map(len, line._lanes.values())) == 1900


def test_a_priority_that_nobody_has_any_more_costs_nothing() -> None:
    """Priorities that are all different, time stamps for one, leave no empty lanes behind."""
    line = WaitList()
    line.park(priority=-1)

    for priority in range(1000):
        line.park(priority=priority)
        line.grant()
        line.head()

    assert len(line._lanes) == len(line._order) == 1


class WaitListModel(RuleBasedStateMachine):
    """The list against a plain sorted list."""

    def __init__(self) -> None:
        super().__init__()
        self.line = WaitList()
        self.model: list[Waiter] = []
        self.granted: list[Waiter] = []

    @rule(priority=st.integers(-2, 2))
    def park(self, priority: int) -> None:
        """Come."""
        waiter = self.line.park(priority=priority)
        self.model.append(waiter)
        # The sort is stable, so arrival decides within a priority.
        self.model.sort(key=lambda w: -w.priority)

    @rule()
    def grant(self) -> None:
        """Serve the head."""
        waiter = self.line.grant()
        expected = self.model.pop(0) if self.model else None
        assert waiter is expected
        if waiter is not None:
            self.granted.append(waiter)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        """Give up while waiting."""
        waiter = self.model.pop(data.draw(st.integers(0, len(self.model) - 1)))
        assert self.line.abandon(waiter) is True

    @precondition(lambda self: self.granted)
    @rule()
    def abandon_too_late(self) -> None:
        """Give up after the grant."""
        assert self.line.abandon(self.granted[-1]) is False

    @rule()
    def abandon_all(self) -> None:
        """Send everybody away."""
        assert self.line.abandon_all() == self.model
        self.model.clear()

    @rule(many=st.integers(60, 140))
    def come_and_go(self, many: int) -> None:
        """Come in numbers and give up, so that the dead are swept out."""
        for waiter in [self.line.park() for _ in range(many)]:
            self.line.abandon(waiter)

    @invariant()
    def agrees_with_the_model(self) -> None:
        """Same length, same order, same head."""
        assert len(self.line) == len(self.model)
        assert list(self.line) == self.model
        assert self.line.head() is (self.model[0] if self.model else None)

    @invariant()
    def counts_the_dead(self) -> None:
        """Every entry is counted as living or dead, every lane has its place."""
        entries = sum(map(len, self.line._lanes.values()))
        assert entries == self.line._live + self.line._dead
        assert self.line._order == sorted(self.line._lanes)


TestWaitListModel = WaitListModel.TestCase
TestWaitListModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_the_heads_are_the_next_of_each_priority():
    """Whoever has left is passed over; the oldest of all waiters is one of them."""
    line = WaitList()
    waiters = [line.park(name, priority) for name, priority in (("a", 0), ("b", 5), ("c", 0))]
    line.abandon(waiters[0])

    assert {waiter.cost for waiter in line.heads()} == {"b", "c"}
    line.abandon_all()
    assert line.heads() == []
