"""What failed jobs amount to, in plain numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock import ConfigError, Escalation
from penstock.workers.escalation import Decision, EscalationMachine, Step

NOTHING, STOP = Decision(Step.NOTHING), Decision(Step.STOP)


def machine(**options: float) -> EscalationMachine:
    """Return a machine of three failures in 100 s, pauses of 10 s, 20 s, ... and no end."""
    usual: dict[str, float] = {"failures": 3, "window": 100, "trips": 99, "trip_window": 1000}
    return EscalationMachine(Escalation(**{**usual, **options}))  # type: ignore[arg-type]


def test_failures_below_the_number_lead_to_nothing():
    """Two bad jobs are two bad jobs."""
    escalation = machine()

    assert [escalation.fail(now) for now in (0, 1)] == [NOTHING, NOTHING]


def test_the_failure_that_is_too_many_pauses_the_pool():
    """And the counting begins anew."""
    escalation = machine()

    decisions = [escalation.fail(now) for now in range(6)]

    assert decisions[2] == Decision(Step.PAUSE, 10)
    assert decisions[3:5] == [NOTHING, NOTHING]
    assert decisions[5] == Decision(Step.PAUSE, 20)


def test_a_failure_is_forgotten_after_the_window():
    """At its very end: 100 s after the first one two are left."""
    escalation = machine()

    decisions = [escalation.fail(now) for now in (0, 1, 100, 100.5)]

    assert [decision.step for decision in decisions[:3]] == [Step.NOTHING] * 3
    assert decisions[3].step is Step.PAUSE


def test_pauses_grow_up_to_the_longest():
    """10, 20, 40 s and no more than 60."""
    escalation = machine(max_pause=60)

    assert [escalation.trip(now).seconds for now in range(5)] == [10, 20, 40, 60, 60]


def test_a_pause_that_no_float_can_hold_is_the_longest():
    """Growth that overflows is cut off, not raised."""
    escalation = machine(trips=10_000, pause_growth=1e300, trip_window=1e9)

    assert [escalation.trip(now).seconds for now in range(3_000)][1:] == [600] * 2_999


def test_a_pause_is_forgotten_after_its_window():
    """The next one is as short as the first."""
    escalation = machine(trip_window=1000)

    assert [escalation.trip(now).seconds for now in (0, 999, 1000, 2000)] == [10, 20, 20, 10]


def test_the_last_pause_is_the_end():
    """With three allowed the third one stops the pool."""
    escalation = machine(trips=3)

    assert [escalation.trip(now).step for now in range(3)] == [Step.PAUSE, Step.PAUSE, Step.STOP]


def test_with_one_pause_the_first_is_the_end():
    """Nothing is paused then."""
    assert machine(trips=1).trip(0) == STOP


def test_a_pause_that_a_job_asks_for_leaves_the_failures_alone():
    """Two failures before and one after it are three."""
    escalation = machine()
    escalation.fail(0)
    escalation.fail(1)

    assert escalation.trip(2) == Decision(Step.PAUSE, 10)
    assert escalation.fail(3) == Decision(Step.PAUSE, 20)


def test_the_snapshot_shows_what_counts_at_the_moment():
    """Forgotten ones do not, noticed or not."""
    escalation = machine(trips=5)
    escalation.fail(0)
    escalation.fail(50)
    escalation.trip(60)

    assert escalation.snapshot(120) == {
        "failures": 1,
        "failures_to_pause": 3,
        "pauses": 1,
        "pauses_to_stop": 5,
    }
    assert escalation.snapshot(5000)["pauses"] == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("failures", 0),
        ("failures", 1.5),
        ("window", 0),
        ("window", float("nan")),
        ("pause", -1),
        ("pause", float("inf")),
        ("pause_growth", 0.5),
        ("max_pause", 9),
        ("trips", 0),
        ("trip_window", "soon"),
    ],
)
def test_what_is_not_allowed_is_refused(field: str, value: object):
    """The error names the field and the value."""
    with pytest.raises(ConfigError, match=rf"escalation: '{field}' must be .*; got {value!r}"):
        Escalation(**{field: value})  # type: ignore[arg-type]


class Escalating(RuleBasedStateMachine):
    """A machine against the plain definition: lists of times, counted anew each time."""

    @initialize(failures=st.integers(1, 4), trips=st.integers(1, 4))
    def begin(self, failures: int, trips: int) -> None:
        """Choose how many are too many."""
        self.now = 0.0
        self.options = Escalation(
            failures=failures, window=10, pause=1, pause_growth=3, max_pause=5,
            trips=trips, trip_window=50,
        )  # fmt: skip
        self.machine = EscalationMachine(self.options)
        self.failed: list[float] = []
        self.tripped: list[float] = []

    @rule(seconds=st.sampled_from([0, 0.5, 1, 3, 9.5, 10, 40, 50]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    @rule()
    def fail(self) -> None:
        """A job fails."""
        self.failed.append(self.now)
        recent = [at for at in self.failed if at > self.now - 10]
        if len(recent) < self.options.failures:
            expected = NOTHING
        else:
            self.failed.clear()
            expected = self.expected_trip()

        assert self.machine.fail(self.now) == expected

    @rule()
    def trip(self) -> None:
        """A job asks for a pause."""
        assert self.machine.trip(self.now) == self.expected_trip()

    def expected_trip(self) -> Decision:
        """Return what a trip leads to, by the definition."""
        self.tripped.append(self.now)
        number = sum(at > self.now - 50 for at in self.tripped)
        if number >= self.options.trips:
            return STOP
        return Decision(Step.PAUSE, min(5.0, 3.0 ** (number - 1)))

    @invariant()
    def memory_is_bounded(self) -> None:
        """No more is kept than can count."""
        if hasattr(self, "machine"):
            assert len(self.machine._failures) < self.options.failures
            shown = self.machine.snapshot(self.now)
            assert shown["failures"] == sum(at > self.now - 10 for at in self.failed)


TestEscalating = Escalating.TestCase
TestEscalating.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_a_pause_is_never_shorter_than_the_first_nor_longer_than_the_longest(gaps: list[float]):
    """Whenever the trips come."""
    escalation, now = machine(max_pause=300, pause_growth=1.7), 0.0
    for gap in gaps:
        now += gap

        assert 10 <= escalation.trip(now).seconds <= 300
