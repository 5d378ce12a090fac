"""Policy: what it is made of, what its views share, and what becomes of results."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from penstock import (
    CallTimeoutError,
    CircuitOpenError,
    ConfigError,
    Policy,
    Verdict,
    VerdictKind,
)
from penstock.events import CallEnded, CallStarted
from penstock.stages.concurrency import Concurrency, ConcurrencyOptions
from penstock.testing import EventLog, scripted, takes

pytestmark = pytest.mark.virtual_time


def _whole() -> Policy:
    return (
        Policy("whole")
        .with_fallback(value=None)
        .with_budget()
        .with_retry(3, wait=1)
        .with_rate(100)
        .with_breaker(failures=5)
        .with_concurrency(2)
        .with_timeout(5)
    )


@dataclass
class Response:
    """What an HTTP client returns, as far as a policy looks at it."""

    status_code: int
    headers: dict[str, str] = field(default_factory=dict)


# --- what it is made of -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "   ", None, 5])
def test_a_name_that_is_no_text_is_refused(name: Any):
    """Messages, events and telemetry would have nothing to say."""
    with pytest.raises(ConfigError, match=r"^policy: 'name' must be a text .*; got "):
        Policy(name)


@pytest.mark.parametrize(
    ("hook", "value"),
    [
        ("classify", 5),
        ("classify", scripted().__class__.__call__),
        ("classify_result", "https"),
        ("classify_result", 5),
        ("classify_result", scripted("ok")),
        ("discard", "close"),
        ("observers", ["print"]),
        ("observers", 5),
        ("observers", print),
        ("observers", EventLog()),
    ],
)
def test_a_hook_that_cannot_be_called_is_refused_when_the_policy_is_built(hook: str, value: Any):
    """Not at the first call, and one observer is not quietly taken for a list of them."""
    with pytest.raises(ConfigError, match=hook):
        Policy(**{hook: value})


async def test_each_step_of_a_chain_is_a_policy_of_its_own():
    """The one before it stays as it was."""
    bare = Policy("bare")
    limited = bare.with_timeout(5)
    retrying = limited.with_retry(2, wait=0)

    assert [len(policy.stages) for policy in (bare, limited, retrying)] == [0, 1, 2]
    assert retrying.stages[0] is limited.stages[0]
    with pytest.raises(ConnectionError):
        await limited.call(scripted(ConnectionError))
    assert await retrying.call(scripted(ConnectionError, "second")) == "second"


async def test_the_first_stage_is_the_outermost():
    """In Python, in YAML, in every diagram."""
    order: list[str] = []

    def named(name: str) -> Any:
        async def stage(call: Any, call_next: Any) -> Any:
            order.append(f"into {name}")
            result = await call_next(call)
            order.append(f"out of {name}")
            return result

        return stage

    await Policy().with_stage(named("a")).with_stage(named("b")).call(scripted("done"))

    assert order == ["into a", "into b", "out of b", "out of a"]


@pytest.mark.parametrize("stage", [None, 5, "retry", Concurrency, {"retry": 3}])
def test_what_is_no_stage_is_refused(stage: Any):
    """A class is not one either: it would have to be built first."""
    with pytest.raises(ConfigError, match=r"^policy 'search': a stage must .*call, call_next"):
        Policy("search").with_stage(stage)


async def test_a_custom_stage_may_be_any_callable_that_returns_an_awaitable():
    """A function, an object, a bound method, a partial, a plain function that returns a future."""

    async def function(call: Any, call_next: Any) -> str:
        return f"f({await call_next(call)})"

    class Stage:
        async def __call__(self, call: Any, call_next: Any) -> str:
            return f"o({await call_next(call)})"

        async def method(self, call: Any, call_next: Any) -> str:
            return f"m({await call_next(call)})"

    async def with_word(word: str, call: Any, call_next: Any) -> str:
        return f"{word}({await call_next(call)})"

    def future(call: Any, call_next: Any) -> asyncio.Future[Any]:
        return asyncio.ensure_future(call_next(call))

    policy = Policy()
    stages = (function, Stage(), Stage().method, functools.partial(with_word, "p"), future)
    for stage in stages:
        policy = policy.with_stage(stage)

    assert await policy.call(scripted("x")) == "f(o(m(p(x))))"
    # A call can be made a task, whatever its outermost stage returns.
    outermost = Policy().with_stage(future)
    assert await asyncio.create_task(outermost.call(scripted("x"))) == "x"
    assert repr(policy) == "<Policy 'policy': function, Stage, method, partial, future>"
    assert json.dumps(policy.fresh().snapshot())


async def test_a_custom_stage_may_call_again_or_not_at_all():
    """What it does with ``call_next`` is its own business."""

    async def twice(call: Any, call_next: Any) -> Any:
        return [await call_next(call), await call_next(call)]

    async def never(call: Any, call_next: Any) -> Any:
        return "cached"

    operation = scripted("a", "b")

    assert await Policy().with_stage(twice).call(operation) == ["a", "b"]
    assert await Policy().with_stage(never).call(operation) == "cached"


def test_a_repr_tells_name_and_stages():
    """Outermost first."""
    assert repr(Policy("bare")) == "<Policy 'bare': no stages>"
    names = "fallback, budget, retry, rate_limit, breaker, concurrency, timeout"
    assert repr(_whole()) == f"<Policy 'whole': {names}>"


async def test_a_subclass_keeps_its_type_through_every_step():
    """Chains, views and copies."""

    class Mine(Policy):
        __slots__ = ()

    policy = Mine("mine").with_timeout(5)

    assert [type(p) for p in (policy, policy.using(priority=1), policy.fresh())] == [Mine] * 3
    assert await policy.using(priority=1).call(scripted("done")) == "done"


# --- state: shared, fresh, snapshot -----------------------------------------------------------


async def test_policies_of_one_chain_share_the_state_of_their_stages():
    """A permit taken through one is missing in the other."""
    outer = Policy().with_concurrency(1)
    inner = outer.with_timeout(9)
    operation = scripted(then=takes(2))

    await asyncio.gather(outer.call(operation), inner.call(operation))

    assert operation.times == [0, 2]


async def test_a_stage_given_to_two_policies_is_one_limit():
    """This is how two services share a quota."""
    shared = Concurrency(ConcurrencyOptions(limit=1))
    policies = [Policy(name).with_retry(2).with_stage(shared) for name in ("a", "b")]
    operation = scripted(then=takes(2))

    await asyncio.gather(*(policy.call(operation) for policy in policies))

    assert operation.times == [0, 2]


async def test_a_fresh_copy_shares_nothing_but_custom_stages():
    """Same options, same name, new state."""

    async def custom(call: Any, call_next: Any) -> Any:
        return await call_next(call)

    policy = Policy("search").with_breaker(failures=1).with_stage(custom)
    copy = policy.fresh()
    with pytest.raises(ConnectionError):
        await policy.call(scripted(ConnectionError))

    with pytest.raises(CircuitOpenError):
        await policy.call(scripted("never"))
    assert await copy.call(scripted("served")) == "served"
    assert copy.name == "search"
    assert copy.stages[0] is not policy.stages[0]
    assert copy.stages[1] is custom


async def test_a_snapshot_is_plain_data_of_every_stage():
    """JSON holds it, also while calls are under way, and the secret argument is not in it."""
    policy = _whole()
    task = asyncio.create_task(policy.call(scripted(takes(3)), "secret"))
    await asyncio.sleep(1)

    text = json.dumps(policy.snapshot())
    await task

    snapshot = json.loads(text)
    assert snapshot["policy"] == "whole"
    assert [stage["stage"] for stage in snapshot["stages"]] == [
        "fallback",
        "budget",
        "retry",
        "rate_limit",
        "breaker",
        "concurrency",
        "timeout",
    ]
    assert snapshot["stages"][5]["in_flight"] == 1
    assert snapshot["stages"][6]["running"] == 1
    assert "secret" not in text


# --- using ------------------------------------------------------------------------------------


async def test_a_view_shares_the_state_of_its_policy():
    """It is another way in, not another limit."""
    policy = Policy().with_concurrency(1)
    operation = scripted(then=takes(2))

    await asyncio.gather(policy.call(operation), policy.using(timeout=9).call(operation))

    assert operation.times == [0, 2]


async def test_a_view_bounds_the_whole_call():
    """Waits and retries included."""
    loop = asyncio.get_running_loop()
    policy = Policy("search").with_retry(9, wait=1).with_timeout(2)

    with pytest.raises(CallTimeoutError, match="policy 'search': the call timed out after 5 s"):
        await policy.using(timeout=timedelta(seconds=5)).call(scripted(then=takes(60)))

    assert loop.time() == 5


@pytest.mark.parametrize("how", ["stage", "fresh", "using", "wrap", "stream", "gather"])
async def test_what_is_made_of_a_view_keeps_its_overrides(how: str):
    """A stage added to a view, a copy of it, a view of it, whatever is called through it."""
    loop = asyncio.get_running_loop()
    view = Policy().with_timeout(50).using(timeout=5)
    operation = scripted(then=takes(60))

    async def run() -> None:
        match how:
            case "stage":
                await view.with_retry(2).call(operation)
            case "fresh":
                await view.fresh().call(operation)
            case "using":
                await view.using(priority=1).call(operation)
            case "wrap":
                await view.wrap(operation)()
            case "gather":
                await view.gather(lambda _: operation(), [1])
            case _:
                async with view.stream(operation):
                    pass

    with pytest.raises(CallTimeoutError):
        await run()

    assert loop.time() == 5


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"timeout": 5}, {"timeout": 9}, ("timeout", 5)),
        ({"timeout": 9}, {"timeout": 5}, ("timeout", 5)),
        ({"timeout": 9}, {"priority": 3}, ("timeout", 9)),
        ({"attempts": 2}, {"attempts": 5}, ("attempts", 2)),
        ({"attempts": 5}, {"attempts": 2}, ("attempts", 2)),
        ({"priority": 5}, {"priority": 2}, ("priority", 2)),
        ({"priority": 5}, {"priority": 0}, ("priority", 0)),
        ({"cost": 5}, {"cost": 9}, ("cost", 9)),
        ({"cost": 5}, {"cost": 0}, ("cost", 0)),
        ({"key": "a"}, {"key": "b"}, ("key", "b")),
        ({"key": "a"}, {"cost": 1}, ("key", "a")),
        ({"request_id": "a"}, {"request_id": "b"}, ("request_id", "b")),
        ({"tags": {"a": "1", "b": "1"}}, {"tags": {"b": "2"}}, ("tags", {"a": "1", "b": "2"})),
    ],
)
async def test_bounds_only_tighten_and_labels_are_replaced(
    first: dict[str, Any], second: dict[str, Any], expected: tuple[str, Any]
):
    """The smaller timeout and the fewer attempts win, in whatever order they are given."""
    seen: list[Any] = []

    async def look(call: Any, call_next: Any) -> Any:
        seen.append(call.context.overrides)
        return await call_next(call)

    await Policy().with_stage(look).using(**first).using(**second).call(scripted("done"))

    name, value = expected
    assert getattr(seen[0], name) == value


async def test_fewer_attempts_are_made_through_a_view():
    """Never more than the retry stage has."""
    policy = Policy().with_retry(3, wait=0)

    for attempts, made in ((1, 1), (2, 2), (3, 3), (9, 3)):
        operation = scripted(then=ConnectionError)
        with pytest.raises(ConnectionError):
            await policy.using(attempts=attempts).call(operation)
        assert len(operation.calls) == made


async def test_a_view_reaches_the_operations_call_and_its_events():
    """Key, tags, cost, priority and request id."""
    log, seen = EventLog(), []

    async def look(call: Any, call_next: Any) -> Any:
        seen.append((call.key, dict(call.tags), call.cost, call.priority))
        return await call_next(call)

    view = Policy(observers=[log]).with_stage(look)
    view = view.using(key="k", tags={"team": "a"}, cost=2, priority=7, request_id="r-1")
    await view.call(scripted("done"))

    assert seen == [("k", {"team": "a"}, 2, 7)]
    assert {event.request_id for event in log} == {"r-1"}


def test_a_view_of_nothing_is_a_policy_like_the_first():
    """All overrides are optional."""
    policy = _whole()

    assert policy.using().stages == policy.stages
    assert policy.using() is not policy


@pytest.mark.parametrize("settled", [False, True], ids=["before a call", "after a call"])
async def test_a_view_can_be_taken_at_any_time(settled: bool):
    """Before the policy has ever been called, too."""
    policy = Policy().with_retry(2, wait=0)
    if settled:
        await policy.call(scripted("done"))

    assert await policy.using(timeout=1).call(scripted(OSError, "done")) == "done"


# --- results that are failures ----------------------------------------------------------------


async def test_http_results_are_judged_by_their_status():
    """A 503 is tried again, with the server's hint, and what was refused is thrown away."""
    discarded: list[Any] = []
    policy = Policy(classify_result="http", discard=discarded.append).with_retry(3, wait=1)
    busy = Response(503, {"Retry-After": "7"})
    operation = scripted(busy, Response(500), Response(200))

    result = await policy.call(operation)

    assert result.status_code == 200
    assert operation.times == [0, 7, 8]
    assert [response.status_code for response in discarded] == [503, 500]


@pytest.mark.parametrize("status", [200, 204, 304])
async def test_a_good_status_is_a_good_result(status: int):
    """It is handed on as it is."""
    log, response = EventLog(), Response(status)
    policy = Policy(classify_result="http", observers=[log]).with_retry(3)

    assert await policy.call(scripted(response)) is response
    assert log.only(CallEnded).outcome == "success"


async def test_the_last_refused_result_reaches_the_caller_as_it_is():
    """No error of ours takes its place, and it is not thrown away."""
    discarded: list[Any] = []
    policy = Policy(classify_result="http", discard=discarded.append).with_retry(2, wait=0)
    first, last = Response(503), Response(503)

    result = await policy.call(scripted(first, last))

    assert result is last
    assert discarded == [first]


async def test_a_refused_result_that_is_not_retried_is_returned_at_once():
    """A 404 is the caller's."""
    operation = scripted(Response(404))

    result = await Policy(classify_result="http").with_retry(3).call(operation)

    assert result.status_code == 404
    assert len(operation.calls) == 1


async def test_stages_see_a_refused_result_as_the_failure_it_is():
    """The breaker opens, and a limiter gives back or pauses, as for an exception."""
    policy = Policy(classify_result="http").with_breaker(failures=2)

    for _ in range(2):
        assert (await policy.call(scripted(Response(503)))).status_code == 503

    with pytest.raises(CircuitOpenError):
        await policy.call(scripted(Response(200)))


@pytest.mark.parametrize(
    ("answer", "tried"),
    [
        (None, 1),
        ("ok", 1),
        (VerdictKind.OK, 1),
        ("transient", 2),
        (VerdictKind.OVERLOADED, 2),
        (Verdict(VerdictKind.TIMEOUT), 2),
        ("caller_bug", 1),
        (Verdict(VerdictKind.AUTH), 1),
    ],
)
async def test_an_own_function_says_what_a_result_means(answer: Any, tried: int):
    """A verdict, a kind, its word, or None for a good one."""
    operation = scripted(then={"rows": []})

    await Policy(classify_result=lambda _: answer).with_retry(2, wait=0).call(operation)

    assert len(operation.calls) == tried


async def test_a_kind_takes_the_hint_from_the_results_headers():
    """As it does for a failure; a verdict says all there is to say."""
    for answer, waits in (("rate_limited", 9), (Verdict(VerdictKind.RATE_LIMITED), 1)):
        policy = Policy(classify_result=lambda r, a=answer: a if r.status_code == 429 else None)
        operation = scripted(Response(429, {"Retry-After": "9"}), Response(200))

        await policy.with_retry(2, wait=1).call(operation)

        assert operation.times[1] - operation.times[0] == waits


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        (lambda _: "unheard of", "got 'unheard of'"),
        (lambda _: 503, "must return a Verdict"),
        (lambda _: Verdict(VerdictKind.TRANSIENT, retry_after=-1), "retry_after"),
        (lambda result: result.nothing, "raised AttributeError"),
    ],
)
async def test_a_mistake_in_judging_takes_no_result_away(
    mistake: Any, told: str, caplog: pytest.LogCaptureFixture
):
    """The result is returned, and the mistake is reported once."""
    policy = Policy(classify_result=mistake).with_retry(3)

    with caplog.at_level(logging.WARNING, "penstock"):
        results = [await policy.call(scripted("good")) for _ in range(3)]

    assert results == ["good"] * 3
    assert len(caplog.records) == 1
    assert told in caplog.text
    assert "taken as good" in caplog.text


async def test_what_a_judge_raised_is_not_shown(caplog: pytest.LogCaptureFixture):
    """Its text may hold keys."""

    def judge(result: Any) -> None:
        raise KeyError("secret")

    with caplog.at_level(logging.WARNING, "penstock"):
        assert await Policy(classify_result=judge).call(scripted("good")) == "good"

    assert "raised KeyError" in caplog.text
    assert "secret" not in caplog.text


async def test_a_stream_is_no_result_to_be_judged():
    """Its items went to the reader; the judge would be asked about nothing."""
    asked: list[Any] = []

    async def numbers() -> Any:
        yield 1

    async with Policy(classify_result=asked.append).stream(numbers) as items:
        assert [item async for item in items] == [1]
    assert asked == []


async def test_a_refused_result_is_a_failed_call_to_observers():
    """Though the caller gets it as a result, and no error."""
    log = EventLog()
    policy = Policy(classify_result="http", observers=[log])

    await policy.call(scripted(Response(503)))
    await policy.call(scripted(Response(200)))

    assert [(e.outcome, e.error_type) for e in log.of(CallEnded)] == [
        ("failure", None),
        ("success", None),
    ]


async def test_a_failure_is_judged_by_the_users_classifier_first():
    """None goes on to the table."""

    def classify(failure: BaseException) -> str | None:
        return "transient" if isinstance(failure, ValueError) else None

    policy = Policy(classify=classify).with_retry(2, wait=0)

    assert await policy.call(scripted(ValueError, "second")) == "second"
    with pytest.raises(TypeError):
        await policy.call(scripted(TypeError))


# --- observers --------------------------------------------------------------------------------


async def test_observers_hear_of_calls_by_the_operations_name():
    """Also of a stream, which runs inside a wrapper of ours."""
    log = EventLog()
    policy = Policy(observers=[log]).with_retry(2)

    async def rows() -> Any:
        yield 1

    await policy.call(scripted("done", name="search"))
    async with policy.stream(rows) as items:
        assert [item async for item in items] == [1]

    first, second = [event.operation for event in log.of(CallStarted)]
    assert first == "search"
    assert second.endswith("rows")


async def test_an_observer_that_raises_is_reported_once_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
):
    """The others are still told."""
    log = EventLog()
    policy = Policy(observers=[scripted_observer(), log])

    with caplog.at_level(logging.ERROR, "penstock"):
        results = [await policy.call(scripted("good")) for _ in range(3)]

    assert results == ["good"] * 3
    assert len(log.of(CallEnded)) == 3
    assert len(caplog.records) == 1


def scripted_observer() -> Any:
    """Return an observer that always raises."""

    def observe(event: Any) -> None:
        raise KeyError("observer")

    return observe
