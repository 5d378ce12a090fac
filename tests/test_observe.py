"""What observers are told, in which order, and what they cannot change."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any

import pytest

from penstock import CallTimeoutError, ConfigError, Event, Policy, PolicyError
from penstock.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    RetryScheduled,
    WaitEnded,
)
from penstock.observe import Notifier
from penstock.testing import EventLog, scripted, takes
from penstock.verdict import VerdictKind

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def log() -> EventLog:
    """An observer that remembers."""
    return EventLog()


# --- order ------------------------------------------------------------------------------------


async def test_a_success_is_told_from_the_outside_in_and_out_again(log: EventLog):
    """With the times of the virtual clock."""
    policy = Policy("search", observers=[log]).with_timeout(9).with_retry(2)

    await policy.call(scripted(takes(3, "done"), name="find"))

    assert log.names() == ["CallStarted", "AttemptStarted", "AttemptEnded", "CallEnded"]
    assert [event.at for event in log] == [0, 0, 3, 3]
    assert log.only(CallStarted).operation == "find"
    assert log.only(AttemptEnded) == AttemptEnded(
        policy="search", at=3, attempt=1, duration=3, verdict=VerdictKind.OK
    )
    assert log.only(CallEnded) == CallEnded(
        policy="search", at=3, operation="find", outcome="success", duration=3, attempts=1
    )


async def test_each_attempt_is_told_with_its_number(log: EventLog):
    """And what is waited for in between."""
    policy = Policy(observers=[log]).with_retry(3, wait=10)

    with pytest.raises(KeyError):
        await policy.call(scripted(takes(1, ConnectionError()), takes(2, KeyError())))

    assert log.names() == [
        "CallStarted",
        "AttemptStarted",
        "AttemptEnded",
        "RetryScheduled",
        "WaitEnded",
        "AttemptStarted",
        "AttemptEnded",
        "RetryStopped",
        "CallEnded",
    ]
    assert [event.attempt for event in log.of(AttemptStarted)] == [1, 2]
    ended = log.of(AttemptEnded)
    assert [(e.attempt, e.duration, e.verdict.value, e.error_type) for e in ended] == [
        (1, 1, "transient", "ConnectionError"),
        (2, 2, "caller_bug", "KeyError"),
    ]
    assert log.only(RetryScheduled).delay == log.only(WaitEnded).seconds == 10
    assert log.only(CallEnded).attempts == 2


async def test_a_call_that_was_refused_made_no_attempt(log: EventLog):
    """It is told as rejected."""
    policy = Policy(observers=[log]).with_concurrency(1, max_queue=0)
    other = asyncio.create_task(policy.call(scripted(takes(5))))
    await asyncio.sleep(1)
    log.clear()

    with pytest.raises(PolicyError):
        await policy.call(scripted())

    assert log.names() == ["CallStarted", "CallRejected", "CallEnded"]
    assert log.only(CallEnded, outcome="rejected", attempts=0, duration=0)
    await other


async def test_a_call_that_timed_out_is_told_as_that(log: EventLog):
    """With the limit, and the attempt that was cut off."""
    policy = Policy(observers=[log]).with_timeout(5)

    with pytest.raises(CallTimeoutError):
        await policy.call(scripted(takes(9)))

    assert log.names() == [
        "CallStarted",
        "AttemptStarted",
        "AttemptEnded",
        "CallTimedOut",
        "CallEnded",
    ]
    assert log.only(CallEnded, outcome="timeout", duration=5, error_type="CallTimeoutError")


async def test_a_limit_of_using_is_inside_of_the_call(log: EventLog):
    """Its end is told as any other's."""
    policy = Policy(observers=[log]).using(timeout=2)

    with pytest.raises(CallTimeoutError):
        await policy.call(scripted(takes(9)))

    assert log.only(CallEnded, outcome="timeout", duration=2)


async def test_a_timeout_error_of_the_operation_is_not_the_policys(log: EventLog):
    """It is a failure like others; its verdict is ``timeout``."""
    with pytest.raises(TimeoutError):
        await Policy(observers=[log]).with_timeout(5).call(scripted(TimeoutError))

    assert log.only(CallEnded, outcome="failure", error_type="TimeoutError")
    assert log.only(AttemptEnded).verdict is VerdictKind.TIMEOUT


async def test_a_cancelled_call_is_told_as_that(log: EventLog):
    """When it ends, with the attempt that was under way."""
    call = asyncio.create_task(Policy(observers=[log]).with_retry(3).call(scripted(takes(9))))
    await asyncio.sleep(2)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert log.names() == ["CallStarted", "AttemptStarted", "AttemptEnded", "CallEnded"]
    assert log.only(AttemptEnded, verdict=VerdictKind.CANCELLED, duration=2)
    assert log.only(CallEnded, outcome="cancelled", error_type="CancelledError")


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [(GeneratorExit, "cancelled"), (asyncio.CancelledError, "cancelled"), (KeyError, "failure")],
)
async def test_whatever_an_operation_raises_ends_its_events(
    failure: type[BaseException], outcome: str, log: EventLog
):
    """No event is missing, whichever exception it is."""
    with pytest.raises(failure):
        await Policy(observers=[log]).with_retry(2).call(scripted(failure))

    assert log.only(CallEnded, outcome=outcome, error_type=failure.__name__)
    assert log.only(AttemptEnded, error_type=failure.__name__)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit])
def test_an_exit_ends_its_events_too(failure: type[BaseException], log: EventLog):
    """It ends the loop, after it has been told."""
    call: Any = Policy(observers=[log]).call(scripted(failure))

    with pytest.raises(failure):
        call.send(None)

    assert log.only(CallEnded, outcome="failure", error_type=failure.__name__)


async def test_a_refused_result_is_a_failure_without_an_error(log: EventLog):
    """The caller gets the result; observers learn what it meant."""
    policy = Policy(observers=[log], classify_result=lambda _: VerdictKind.OVERLOADED)

    assert await policy.call(scripted("busy")) == "busy"

    assert log.only(AttemptEnded, verdict=VerdictKind.OVERLOADED, error_type=None)
    assert log.only(CallEnded, outcome="failure", error_type=None)


# --- what every event carries -----------------------------------------------------------------


async def test_every_event_carries_policy_and_request(log: EventLog):
    """Of all stages; and none where the caller gave none."""
    policy = Policy("search", observers=[log]).with_budget().with_retry(2, wait=1).with_rate(1)
    policy = policy.with_breaker(failures=1).with_concurrency(1).with_timeout(5)
    operation = scripted(then=ConnectionError)

    await asyncio.gather(
        *(policy.using(request_id="r-1").call(operation) for _ in range(3)), return_exceptions=True
    )

    assert {event.policy for event in log} == {"search"}
    assert {event.request_id for event in log} == {"r-1"}
    assert {"WaitEnded", "CallRejected", "CircuitChanged"} <= set(log.names())
    log.clear()
    await policy.fresh().call(scripted("done"))
    assert {event.request_id for event in log} == {None}


async def _operation() -> None:
    pass


class Client:
    """Has a method, and can be called."""

    async def method(self) -> None:
        """Do nothing."""

    async def __call__(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (_operation, "_operation"),
        (Client().method, "Client.method"),
        (Client(), "Client"),
        (len, "len"),
        (functools.partial(len), "len"),
        (scripted(then=1, name="find"), "find"),
    ],
    ids=["function", "method", "object", "built-in", "partial", "scripted"],
)
async def test_an_operation_is_called_by_its_name(fn: Any, name: str, log: EventLog):
    """At both ends of the call."""
    await Policy(observers=[log]).call(fn, *([[]] if name == "len" else []))

    assert log.only(CallStarted).operation == log.only(CallEnded).operation == name


async def test_calls_at_once_are_told_apart_by_their_request(log: EventLog):
    """Each has its own attempts and its own durations."""
    policy = Policy(observers=[log]).with_retry(3, wait=1)

    async def call(number: int) -> None:
        operation = scripted(*[ConnectionError] * number, then=takes(number))
        await policy.using(request_id=str(number)).call(operation)

    await asyncio.gather(*map(call, range(3)))

    for number in range(3):
        ended = log.only(CallEnded, request_id=str(number))
        assert (ended.attempts, ended.duration) == (number + 1, 2 * number)


# --- what an observer cannot change -----------------------------------------------------------


class Raising:
    """Raises at every event."""

    def __init__(self) -> None:
        self.told = 0

    def __call__(self, event: Event) -> None:
        """Raise."""
        self.told += 1
        raise ZeroDivisionError(self.told)


async def test_an_observer_that_raises_changes_nothing_and_is_reported_once(
    caplog: pytest.LogCaptureFixture, log: EventLog
):
    """The others are told all the same; a second one of its kind is reported for itself."""
    first, second = Raising(), Raising()
    policy = Policy(observers=[first, log, second]).with_retry(2, wait=1)

    with caplog.at_level(logging.ERROR, "penstock"):
        for _ in range(2):
            assert await policy.call(scripted(ConnectionError, "done")) == "done"

    assert first.told == second.told == len(log) == 2 * 8
    assert [record.message for record in caplog.records] == [
        "observer 'Raising' raised; further errors are not shown"
    ] * 2
    assert all(record.exc_info for record in caplog.records)


async def test_a_failure_is_not_hidden_by_an_observer():
    """It reaches the caller as the same object."""
    failure = ConnectionError("down")

    with pytest.raises(ConnectionError) as caught:
        await Policy(observers=[Raising()]).call(scripted(failure))

    assert caught.value is failure
    assert failure.__context__ is None


async def test_observers_are_told_in_their_order():
    """Each event to all of them, before the next."""
    told: list[tuple[str, str]] = []

    def named(name: str) -> Callable[[Event], None]:
        return lambda event: told.append((name, type(event).__name__))

    await Policy(observers=[named("a"), named("b")]).call(scripted("done"))

    assert told[:4] == [
        ("a", "CallStarted"),
        ("b", "CallStarted"),
        ("a", "AttemptStarted"),
        ("b", "AttemptStarted"),
    ]


class AsyncObserver:
    """Would have to be awaited."""

    async def __call__(self, event: Event) -> None:
        """Do nothing."""


async def _observer(event: Event) -> None:
    pass


@pytest.mark.parametrize(
    ("observer", "name"),
    [
        (_observer, "_observer"),
        (functools.partial(_observer), "_observer"),
        (AsyncObserver(), "AsyncObserver"),
    ],
    ids=["function", "partial", "object"],
)
def test_an_observer_that_has_to_be_awaited_is_refused(observer: Any, name: str):
    """Nobody would: its events would be lost, with a warning for each."""
    with pytest.raises(ConfigError, match=f"'observers' must be plain callables.*'{name}'"):
        Policy(observers=[observer])


# --- what it costs ----------------------------------------------------------------------------


def _kinds(kind: type[Event]) -> list[type[Event]]:
    return [kind, *(inner for sub in kind.__subclasses__() for inner in _kinds(sub))]


async def test_without_observers_no_event_is_built(monkeypatch: pytest.MonkeyPatch):
    """Through success, retry, waits, rejections and time-outs."""
    built: list[str] = []

    def spy(self: Event, **facts: Any) -> None:
        built.append(type(self).__name__)

    for kind in _kinds(Event):
        monkeypatch.setattr(kind, "__init__", spy)
    policy = Policy().with_fallback(value=None).with_budget().with_retry(2, wait=1).with_rate(1)
    policy = policy.with_breaker(failures=1).with_concurrency(1, max_queue=1).with_timeout(5)
    outcomes = (ConnectionError, takes(9), KeyError, "done")

    await asyncio.gather(*(policy.call(scripted(then=o)) for o in outcomes), return_exceptions=True)
    await policy.using(timeout=1).call(scripted(takes(2)))
    assert built == []

    Notifier([print])
    await Policy(observers=[lambda _: None]).call(scripted("done"))
    assert built == ["CallStarted", "AttemptStarted", "AttemptEnded", "CallEnded"]


async def test_without_observers_no_frame_is_spent_on_them():
    """The coroutine of a call is the outermost stage's own."""
    for observers, name in (([], "__call__"), ([print], "observed")):
        call: Any = Policy(observers=observers).with_timeout(1).call(_operation)
        assert call.cr_code.co_name == name
        call.close()
