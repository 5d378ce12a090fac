from __future__ import annotations

import pytest

from penstock import Policy
from penstock.events import AttemptEnded, CallEnded, Event, RetryScheduled, WaitEnded
from penstock.testing import EventLog, scripted

pytestmark = pytest.mark.virtual_time


def _wait(stage: str, at: float = 0.0) -> WaitEnded:
    return WaitEnded(policy="t", at=at, stage=stage, seconds=1.5)


def test_events_are_kept_in_order() -> None:
    """The log is a sequence of what it was given."""
    log = EventLog()

    log(_wait("a"))
    log(_wait("b"))

    assert list(log) == log.events == [_wait("a"), _wait("b")]
    assert len(log) == 2
    assert log.names() == ["WaitEnded", "WaitEnded"]


def test_events_are_found_by_type_and_facts() -> None:
    """A base class finds its subclasses, and each given fact must hold."""
    log = EventLog()
    log(_wait("a"))
    log(_wait("b"))

    assert log.of(Event) == log.events
    assert log.of(WaitEnded, stage="b") == [_wait("b")]
    assert log.of(WaitEnded, stage="b", seconds=9) == []
    assert log.of(CallEnded) == []


def test_a_fact_that_no_event_has_is_a_mistake_in_the_test() -> None:
    """A misspelt field does not pass as nothing found."""
    log = EventLog()
    log(_wait("a"))

    with pytest.raises(TypeError, match="WaitEnded has no field stagee"):
        log.of(WaitEnded, stagee="a")


def test_a_misspelt_fact_is_found_in_an_empty_log_too() -> None:
    """``assert_none`` would otherwise agree with any mistake."""
    with pytest.raises(TypeError, match="WaitEnded has no field stagee"):
        EventLog().assert_none(WaitEnded, stagee="a")


def test_the_only_event_is_returned() -> None:
    """One that matches is what a test goes on with."""
    log = EventLog()
    log(_wait("a"))
    log(_wait("b"))

    assert log.only(WaitEnded, stage="a") is log.events[0]


@pytest.mark.parametrize("stages", [[], ["a", "a"]])
def test_none_or_several_in_place_of_one_fail_with_the_whole_log(stages: list[str]) -> None:
    """The message shows what did happen."""
    log = EventLog()
    for stage in stages:
        log(_wait(stage))

    with pytest.raises(AssertionError) as failure:
        log.only(WaitEnded, stage="a")

    assert str(failure.value) == (
        f"expected one WaitEnded(stage='a'), found {len(stages)} in:\n{log}"
    )


def test_an_event_that_must_not_be_fails_with_the_whole_log() -> None:
    """The message shows when it came."""
    log = EventLog()
    log(_wait("a", at=2.0))
    log.assert_none(CallEnded)

    with pytest.raises(AssertionError) as failure:
        log.assert_none(WaitEnded)

    assert str(failure.value) == (
        "expected no WaitEnded(), found 1 in:\n"
        "    2.000000  WaitEnded(policy='t', stage='a', seconds=1.5)"
    )


def test_a_log_can_be_emptied() -> None:
    """For a test that looks at its last part only."""
    log = EventLog()
    log(_wait("a"))

    log.clear()

    assert len(log) == 0
    assert str(log) == "(no events)"


async def test_a_policy_writes_its_history_into_the_log() -> None:
    """One retried call leaves its attempts, its pause and its end."""
    log = EventLog()
    policy = Policy("t", observers=[log]).with_retry(attempts=3, wait=2)

    await policy.call(scripted(ConnectionError, "ok"))

    assert log.only(RetryScheduled).delay == 2
    assert [e.attempt for e in log.of(AttemptEnded)] == [1, 2]
    assert log.only(CallEnded, outcome="success").at == 2
    assert "AttemptEnded(policy='t', attempt=2, duration=0.0, verdict='ok')" in str(log)
