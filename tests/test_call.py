"""Call: one execution, what it knows, and what an operation can tell it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

from penstock import ConfigError, Policy, PolicyError, Verdict, VerdictKind, current_call
from penstock.call import Call, CallContext, Meter, Overrides, RefusedResult
from penstock.events import CallStarted, Event, RetryScheduled
from penstock.testing import EventLog, scripted, takes

pytestmark = pytest.mark.virtual_time


class Judge:
    """A classifier that counts how often it is asked."""

    def __init__(self, kind: VerdictKind = VerdictKind.TRANSIENT) -> None:
        self.kind = kind
        self.asked: list[BaseException] = []

    def __call__(self, failure: BaseException) -> Verdict:
        self.asked.append(failure)
        return Verdict(self.kind)


def _call(judge: Callable[[BaseException], Verdict] | None = None, **context: Any) -> Call:
    return Call(CallContext(policy="search", classify=judge or Judge(), **context), scripted("x"))


# --- verdicts ---------------------------------------------------------------------------------


def test_a_failure_is_classified_once_whichever_stage_asks_first():
    """All stages read the same verdict."""
    judge, failure = Judge(), OSError()
    call = _call(judge)

    verdicts = [call.judge(failure) for _ in range(3)]

    assert judge.asked == [failure]
    assert all(verdict is call.verdict for verdict in verdicts)


def test_another_failure_is_another_question():
    """Also one that equals the first."""
    judge = Judge()
    call = _call(judge)
    first, second = OSError("same"), OSError("same")

    call.judge(first)
    call.judge(second)

    assert judge.asked == [first, second]


def test_a_verdict_that_was_dropped_is_asked_for_anew():
    """Whoever swallows a failure leaves nothing behind."""
    judge, failure = Judge(), OSError()
    call = _call(judge)

    call.judge(failure)
    call.forget_verdict()

    assert call.verdict is None
    call.judge(failure)
    assert judge.asked == [failure] * 2


async def test_five_stages_cost_one_classification_per_attempt():
    """Retry, rate, breaker, timeout and a fallback agree, because they are told the same."""
    judge = Judge()
    policy = (
        Policy(classify=judge)
        .with_fallback(value="answer")
        .with_retry(3, wait=0)
        .with_rate(100)
        .with_breaker()
        .with_concurrency(5)
        .with_timeout(5)
    )
    failures = [OSError(), OSError(), OSError()]

    await policy.call(scripted(*failures))

    assert judge.asked == failures


# --- what it knows ----------------------------------------------------------------------------


def test_a_call_begins_with_nothing_behind_it():
    """Attempt 1, no verdict, no deadline, not committed."""
    call = _call()

    assert (call.attempt, call.starts, call.verdict, call.deadline) == (1, 0, None, None)
    assert (call.committed, call.attempts_inside, call.resource, call.budget) == (
        False,
        False,
        None,
        None,
    )
    assert (call.cost, call.priority, call.key, dict(call.tags)) == (None, 0, None, {})
    assert (call.args, call.kwargs) == ((), {})


def test_a_call_reads_what_using_has_set():
    """Through its context, which all calls of a view share."""
    overrides = Overrides(cost=2.5, priority=3, key="k", tags={"team": "a"})
    call = _call(overrides=overrides)

    assert (call.cost, call.priority, call.key, call.tags) == (2.5, 3, "k", {"team": "a"})


def test_time_left_is_none_without_a_deadline_and_negative_after_it():
    """Seconds from the given moment."""
    call = _call()
    assert call.time_left(10.0) is None

    call.deadline = 12.0

    assert call.time_left(10.0) == 2.0
    assert call.time_left(15.0) == -3.0


def test_a_call_takes_no_attributes_of_others():
    """A misspelt one is an error; tags are for labels."""
    with pytest.raises(AttributeError):
        _call().prioritiy = 5  # type: ignore[attr-defined]


async def _search() -> None: ...


class Client:
    """What users call methods of."""

    async def get(self) -> None: ...

    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (_search, "_search"),
        (Client().get, "Client.get"),
        (Client(), "Client"),
        (functools.partial(_search), "_search"),
        (functools.partial(functools.partial(Client().get)), "Client.get"),
        (scripted(then=None, name="scripted-search"), "scripted-search"),
        (len, "len"),
    ],
    ids=["function", "method", "object", "partial", "nested partial", "scripted", "built-in"],
)
async def test_an_operation_has_a_name_for_people_to_read(operation: Any, name: str):
    """In events and messages, however it is called."""
    log = EventLog()
    args = ("abc",) if operation is len else ()

    await Policy(observers=[log]).call(operation, *args)

    assert log.only(CallStarted).operation == name


# --- events -----------------------------------------------------------------------------------


def test_no_event_is_built_where_nobody_observes():
    """Observing costs nothing until somebody does."""

    def never(**facts: Any) -> Event:
        raise AssertionError("built")

    _call().emit(never)


def test_an_event_carries_policy_time_and_request_id():
    """And the facts it was given."""
    log = EventLog()
    call = _call(notify=log, overrides=Overrides(request_id="r-1"))

    call.emit(CallStarted, operation="search")

    event = log.only(CallStarted)
    assert (event.policy, event.request_id, event.operation) == ("search", "r-1", "search")


# --- current_call and settle ------------------------------------------------------------------


def test_outside_of_a_call_there_is_no_current_one():
    """The error says where there is."""
    with pytest.raises(PolicyError, match="under a rate limit with a cost"):
        current_call()


async def test_an_operation_reaches_its_own_call():
    """Each of two calls at once its own, in whatever task of it, and nobody after it."""
    policy = Policy().with_retry(2, wait=0).with_rate(100, cost=lambda call: call.args[0])
    seen: dict[int, list[Call]] = {1: [], 2: []}

    async def operation(number: int) -> None:
        seen[number].append(current_call())
        await asyncio.sleep(1)
        seen[number].append(await asyncio.create_task(_in_a_task()))

    async def _in_a_task() -> Call:
        return current_call()

    await asyncio.gather(policy.call(operation, 1), policy.call(operation, 2))

    assert [call.args for call in seen[1]] == [(1,)] * 2
    assert [call.args for call in seen[2]] == [(2,)] * 2
    assert seen[1][0] is seen[1][1]
    with pytest.raises(PolicyError):
        current_call()


async def test_a_call_inside_a_call_hides_the_outer_one_and_gives_it_back():
    """Two policies with costs, one within the other's operation."""
    outer, inner = Policy("outer").with_rate(9, cost=2), Policy("inner").with_rate(9, cost=3)
    names = []

    async def innermost() -> None:
        names.append(current_call().context.policy)

    async def middle() -> None:
        names.append(current_call().context.policy)
        await inner.call(innermost)
        names.append(current_call().context.policy)

    await outer.call(middle)

    assert names == ["outer", "inner", "outer"]


class Recorder(Meter):
    """A meter that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def settle(self, actual: Any) -> None:
        self.told.append(actual)


def test_a_settled_cost_reaches_every_meter_of_the_call():
    """A number for limits without names, or units by name."""
    call, first, second = _call(), Recorder(), Recorder()
    call.meters = [first, second]

    call.settle(5)
    call.settle(tokens=812, requests=1)

    assert first.told == second.told == [5, {"tokens": 812, "requests": 1}]


def test_nothing_can_be_settled_where_nothing_was_metered():
    """The error says what is missing."""
    with pytest.raises(PolicyError, match="give with_rate a cost= first"):
        _call().settle(5)


def test_a_meter_has_to_say_what_settling_is():
    """The base class is only the interface."""
    with pytest.raises(NotImplementedError):
        Meter().settle(1)


async def test_after_its_attempt_a_call_can_settle_no_more():
    """A cost that comes too late is an error, not a charge to the next attempt."""
    calls: list[Call] = []

    async def operation() -> None:
        calls.append(current_call())

    await Policy().with_rate(10, cost=2).call(operation)

    with pytest.raises(PolicyError):
        calls[0].settle(1)


async def test_two_limits_round_one_operation_are_settled_together():
    """Each takes what it was told and gives back the rest."""
    policy = Policy().with_rate("10/min", cost=9).with_rate("100/min", cost=90)

    async def operation() -> None:
        current_call().settle(4)

    await policy.call(operation)

    assert [s["available"] for s in policy.snapshot()["stages"]] == [[6], [96]]


# --- refused results --------------------------------------------------------------------------


def test_a_refused_result_says_why_and_never_what():
    """Its text is the verdict's reason: a result may hold anything."""
    with_reason = RefusedResult("secret", Verdict(VerdictKind.OVERLOADED, reason="503"))
    without = RefusedResult("secret", Verdict(VerdictKind.OVERLOADED))

    assert (str(with_reason), str(without)) == ("503", "overloaded")
    assert "secret" not in repr(with_reason)


async def test_each_attempt_has_its_number():
    """From 1, in the call and in the events."""
    log, seen = EventLog(), []

    async def look(call: Call, call_next: Any) -> Any:
        seen.append((call.attempt, call.attempts_inside))
        return await call_next(call)

    policy = Policy(observers=[log]).with_stage(look).with_retry(3, wait=1).with_stage(look)
    await policy.call(scripted(OSError, takes(1, OSError()), "done"))

    assert seen == [(1, False), (1, True), (2, True), (3, True)]
    assert [event.attempt for event in log.of(RetryScheduled)] == [1, 2]


@pytest.mark.parametrize("cost", [-1, float("nan"), {"tokens": -1}])
async def test_what_a_callable_cost_answers_is_checked(cost: Any):
    """It is the user's own code, and may be wrong."""
    with pytest.raises(ConfigError, match="rate_limit: 'cost'"):
        await Policy().with_rate(10, cost=lambda _: cost).call(scripted())
