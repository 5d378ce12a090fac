"""The fallback stage: which failures it answers, and what it answers with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from penstock import (
    CallTimeoutError,
    CircuitOpenError,
    ConfigError,
    CooldownResource,
    InvalidResultError,
    Policy,
    TryAgain,
    Verdict,
    VerdictKind,
)
from penstock.events import FallbackUsed, HookFailed
from penstock.stages.fallback import MISSING, Fallback, FallbackOptions
from penstock.stages.fallback.machine import FallbackMachine
from penstock.testing import EventLog, Sweep, cancel_sweep, run, scripted, takes

pytestmark = pytest.mark.virtual_time

# --- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "got"),
    [
        ({}, "none of them"),
        ({"value": 1, "function": str}, "value, function"),
        ({"value": None, "policy": Policy()}, "value, policy"),
        ({"function": str, "policy": Policy()}, "function, policy"),
        ({"value": 0, "function": str, "policy": Policy()}, "value, function, policy"),
    ],
)
def test_exactly_one_answer_must_be_given(options: dict[str, Any], got: str):
    """The error names what was given."""
    with pytest.raises(ConfigError, match=f"^fallback: 'value' must be .*exactly one; got '{got}'"):
        FallbackOptions(**options)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"function": "handler"}, "function"),
        ({"policy": "other"}, "policy"),
        ({"value": 1, "fallback_on": 5}, "fallback_on"),
        ({"value": 1, "fallback_on": "timeouts"}, "fallback_on"),
        ({"value": 1, "fallback_on": asyncio.CancelledError}, "fallback_on"),
        ({"value": 1, "fallback_on": VerdictKind.CANCELLED}, "fallback_on"),
        ({"value": 1, "fallback_on": []}, "fallback_on"),
    ],
)
def test_what_cannot_answer_or_match_is_refused(options: dict[str, Any], field: str):
    """The error names the field, and a cancelled call can never be asked for."""
    with pytest.raises(ConfigError, match=f"^fallback: '{field}' must be "):
        FallbackOptions(**options)


@pytest.mark.parametrize("value", [None, False, 0, "", []])
def test_an_empty_value_is_a_value_too(value: Any):
    """Only leaving it out means that there is none."""
    assert FallbackOptions(value=value).value == value
    assert FallbackOptions(function=str).value is MISSING


# --- machine ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(VerdictKind))
async def test_unless_told_otherwise_it_answers_all_but_the_callers_own_bugs(kind: VerdictKind):
    """A bug answered with a substitute would stay hidden."""
    machine = FallbackMachine(None)

    answered = await machine.answers(ValueError(), Verdict(kind))

    assert answered is (kind not in {VerdictKind.CALLER_BUG, VerdictKind.CANCELLED})


async def test_it_answers_the_types_kinds_and_predicates_it_was_given():
    """Any part that fits is enough, and nothing else is answered."""

    async def says_busy(failure: Exception) -> bool:
        await asyncio.sleep(1)
        return "busy" in str(failure)

    machine = FallbackMachine((KeyError, "overloaded", says_busy))
    bug, unknown = Verdict(VerdictKind.CALLER_BUG), Verdict(VerdictKind.UNKNOWN)

    assert await machine.answers(KeyError(), bug)
    assert await machine.answers(RuntimeError(), Verdict(VerdictKind.OVERLOADED))
    assert await machine.answers(RuntimeError("busy"), unknown)
    assert not await machine.answers(RuntimeError("idle"), unknown)


# --- stage: what answers ----------------------------------------------------------------------


async def test_a_good_result_passes_and_nothing_is_asked():
    """The fallback of a call that succeeds never runs."""
    substitute = scripted()
    policy = Policy().with_fallback(substitute)

    assert await policy.call(scripted("good")) == "good"
    assert substitute.calls == []
    assert policy.snapshot()["stages"] == [{"stage": "fallback", "answered": 0}]


async def test_a_value_stands_in_for_a_failure_as_it_is():
    """The very object is returned, each time."""
    empty: list[str] = []
    policy = Policy().with_fallback(value=empty)

    results = [await policy.call(scripted(ConnectionError)) for _ in range(2)]

    assert results[0] is empty
    assert results[1] is empty
    assert policy.snapshot()["stages"] == [{"stage": "fallback", "answered": 2}]


async def test_an_async_function_answers_with_the_failure_and_the_calls_arguments():
    """It sees the same failure object."""
    failure = ConnectionError("down")
    substitute = scripted(takes(2, "from the cache"))

    result = await Policy().with_fallback(substitute).call(scripted(failure), "query", limit=3)

    (call,) = substitute.calls
    assert result == "from the cache"
    assert call.args == (failure, "query")
    assert call.kwargs == {"limit": 3}


async def test_a_plain_function_answers_at_once():
    """What it returns is the result, whatever it is."""
    policy = Policy().with_fallback(lambda failure, query: f"{query}: {failure}")

    assert await policy.call(scripted(ConnectionError("down")), "query") == "query: down"


async def test_another_policy_answers_by_calling_the_same_operation():
    """The second policy brings its own stages; the arguments are those of the call."""
    slow_path = Policy("patient").with_retry(3, wait=5)
    policy = Policy("eager").with_fallback(policy=slow_path).with_timeout(1)
    search = scripted(takes(9), ConnectionError, takes(2, "found"))

    result = await policy.call(search, "query")

    assert result == "found"
    assert search.times == [0, 1, 6]
    assert [call.args for call in search.calls] == [("query",)] * 3


async def test_a_failing_fallback_is_what_the_caller_gets():
    """The failure that it was to answer stays its context."""
    first, second = ConnectionError("first"), KeyError("second")

    with pytest.raises(KeyError) as caught:
        await Policy().with_fallback(scripted(second)).call(scripted(first))

    assert caught.value is second
    assert caught.value.__context__ is first


async def test_one_fallback_answers_for_another():
    """The inner one first; the outer one for what the inner one raises."""
    policy = Policy().with_fallback(value="last resort").with_fallback(scripted(OSError))

    assert await policy.call(scripted(ConnectionError)) == "last resort"
    assert [s["answered"] for s in policy.snapshot()["stages"]] == [1, 1]


# --- stage: which failures --------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure", [ValueError("bad"), TypeError("bad"), ConfigError("bad")], ids=repr
)
async def test_the_callers_own_bug_is_not_answered(failure: Exception):
    """It reaches the caller as it is, and nothing is counted."""
    policy = Policy().with_fallback(value="never")

    with pytest.raises(type(failure)) as caught:
        await policy.call(scripted(failure))

    assert caught.value is failure
    assert policy.snapshot()["stages"][0]["answered"] == 0


@pytest.mark.parametrize(
    "failure",
    [ConnectionError(), TimeoutError(), RuntimeError(), CooldownResource(5), TryAgain(), OSError()],
    ids=repr,
)
async def test_every_other_failure_is_answered(failure: Exception):
    """Whatever the verdict table says of it."""
    assert await Policy().with_fallback(value="answer").call(scripted(failure)) == "answer"


async def test_refusals_of_stages_further_in_are_answered():
    """An open circuit, a full queue and a timeout are failures like any other."""
    policy = Policy().with_fallback(value="answer").with_breaker(failures=1).with_timeout(1)
    bare = Policy().with_stage(policy.stages[1])

    assert await policy.call(scripted(takes(5))) == "answer"
    with pytest.raises(CircuitOpenError):
        await bare.call(scripted("never"))
    assert await policy.call(scripted("never")) == "answer"


async def test_only_what_fallback_on_names_is_answered():
    """Also the caller's own bugs, where they are named."""
    policy = Policy().with_fallback(value="answer", fallback_on=(KeyError, "timeout"))

    assert await policy.call(scripted(KeyError("k"))) == "answer"
    assert await policy.call(scripted(TimeoutError)) == "answer"
    with pytest.raises(ConnectionError):
        await policy.call(scripted(ConnectionError))


async def test_an_async_predicate_is_awaited():
    """It decides failure by failure."""

    async def is_empty(failure: Exception) -> bool:
        await asyncio.sleep(3)
        return not str(failure)

    policy = Policy().with_fallback(value="answer", fallback_on=is_empty)

    assert await policy.call(scripted(RuntimeError())) == "answer"
    with pytest.raises(RuntimeError, match="told"):
        await policy.call(scripted(RuntimeError("told")))
    assert asyncio.get_running_loop().time() == 6


async def test_a_predicate_that_raises_hides_nothing(caplog: pytest.LogCaptureFixture):
    """The failure reaches the caller; the predicate's own error is logged."""

    def broken(failure: Exception) -> bool:
        raise KeyError("predicate")

    failure = ConnectionError()

    with caplog.at_level(logging.ERROR, "penstock"), pytest.raises(ConnectionError) as caught:
        await (
            Policy("search")
            .with_fallback(value="never", fallback_on=broken)
            .call(scripted(failure))
        )

    assert caught.value is failure
    assert "policy 'search': fallback_on raised; not answered" in caplog.text


async def test_a_cancelled_call_is_never_answered():
    """The caller has gone; there is nobody to answer."""
    policy = Policy().with_fallback(value="never", fallback_on=lambda _: True)
    task = asyncio.create_task(policy.call(scripted(takes(9))))
    await asyncio.sleep(1)

    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert policy.snapshot()["stages"][0]["answered"] == 0


async def test_what_is_no_exception_passes():
    """An exit of the program is not a failure of the service."""
    with pytest.raises(GeneratorExit):
        await (
            Policy()
            .with_fallback(value="never", fallback_on=lambda _: True)
            .call(scripted(GeneratorExit))
        )


# --- stage: what it tells others --------------------------------------------------------------


async def test_an_answer_is_an_event_with_the_verdict_it_stood_in_for():
    """Observers learn how often substitutes are served, and why."""
    log = EventLog()
    policy = Policy("search", observers=[log]).with_fallback(value="answer")

    await policy.call(scripted("good"))
    await policy.call(scripted(ConnectionError))

    used = log.only(FallbackUsed)
    assert (used.policy, used.verdict, used.error_type) == (
        "search",
        VerdictKind.TRANSIENT,
        "ConnectionError",
    )


async def test_stages_further_out_see_a_success():
    """The verdict of the failure that was answered does not linger."""
    seen = []

    async def look(call: Any, call_next: Any) -> Any:
        result = await call_next(call)
        seen.append(call.verdict)
        return result

    policy = Policy().with_stage(look).with_breaker(failures=1).with_fallback(value="answer")

    assert [await policy.call(scripted(OSError)) for _ in range(3)] == ["answer"] * 3
    assert seen == [None] * 3


async def test_a_fresh_stage_counts_anew():
    """The options are the same."""
    stage = Fallback(FallbackOptions(value="answer"))
    await Policy().with_stage(stage).call(scripted(OSError))

    assert stage.snapshot() == {"stage": "fallback", "answered": 1}
    assert stage.fresh().snapshot() == {"stage": "fallback", "answered": 0}
    assert stage.fresh().options is stage.options


# --- refused results --------------------------------------------------------------------------


def _refuses_negative(result: int) -> str | None:
    return "overloaded" if result < 0 else None


async def test_a_refused_result_is_answered_and_thrown_away_first():
    """It is handed to ``discard`` before anything else happens."""
    order: list[Any] = []

    def substitute(failure: Exception) -> str:
        order.append(failure)
        return "answer"

    policy = Policy(classify_result=_refuses_negative, discard=order.append)

    assert await policy.with_fallback(substitute).call(scripted(-5)) == "answer"
    thrown_away, failure = order
    assert thrown_away == -5
    # The carrier inside the pipeline is nobody's business; this one can be imported and caught.
    assert isinstance(failure, InvalidResultError)
    assert failure.results == (-5,)


async def test_a_refused_result_that_is_not_answered_reaches_the_caller_as_it_is():
    """Nothing is thrown away then."""
    discarded: list[int] = []
    policy = Policy(classify_result=_refuses_negative, discard=discarded.append)

    result = await policy.with_fallback(value="never", fallback_on="timeout").call(scripted(-5))

    assert result == -5
    assert discarded == []


async def test_without_a_discard_a_refused_result_is_simply_dropped(
    caplog: pytest.LogCaptureFixture,
):
    """Not everything has to be closed."""
    policy = Policy(classify_result=_refuses_negative).with_fallback(value=0)

    assert await policy.call(scripted(-5)) == 0
    assert caplog.records == []


async def test_an_async_discard_is_awaited():
    """Closing a response takes a moment."""
    discard = scripted(takes(2))
    policy = Policy(classify_result=_refuses_negative, discard=discard).with_fallback(value=0)

    assert await policy.call(scripted(-5)) == 0
    assert discard.calls[0].args == (-5,)
    assert asyncio.get_running_loop().time() == 2


async def test_a_discard_that_raises_takes_no_answer_away(caplog: pytest.LogCaptureFixture):
    """It is logged and told to observers."""
    log = EventLog()
    policy = Policy(
        classify_result=_refuses_negative, discard=scripted(OSError("closed")), observers=[log]
    )

    with caplog.at_level(logging.ERROR, "penstock"):
        result = await policy.with_fallback(value="answer").call(scripted(-5))

    assert result == "answer"
    assert log.only(HookFailed).hook == "discard"
    assert "discard raised" in caplog.text


# --- bare awaitables --------------------------------------------------------------------------


async def test_a_bare_awaitable_is_refused_where_another_policy_would_need_it_again():
    """It can be awaited once, and the first policy has done so."""
    operation = scripted("once")
    awaitable = operation()
    policy = Policy().with_fallback(policy=Policy("other"))

    for view in (policy, policy.using(attempts=1)):
        with pytest.raises(TypeError, match="the stage 'fallback' may need it again"):
            await view.call(awaitable)

    assert operation.calls == []


async def test_a_bare_awaitable_goes_with_a_value_and_with_a_function():
    """Neither needs it again."""
    failing = scripted(OSError, OSError)

    assert await Policy().with_fallback(value=1).call(failing()) == 1
    assert await Policy().with_fallback(lambda _: 2).call(failing()) == 2


# --- streams ----------------------------------------------------------------------------------


async def _numbers(*items: int, fails: bool = True) -> AsyncIterator[int]:
    for item in items:
        yield item
    if fails:
        raise ConnectionError("broken off")


async def _read(policy: Policy, *args: Any, **kwargs: Any) -> list[int]:
    async with policy.stream(_numbers, *args, **kwargs) as items:
        return [item async for item in items]


async def _read_into(read: list[int], stream: Any) -> None:
    async with stream as items:
        async for item in items:
            read.append(item)  # noqa: PERF401 - a comprehension would lose what was read


async def test_a_stream_that_fails_before_its_first_item_is_answered_by_a_stream():
    """The function gets the failure and the stream's own arguments."""
    seen: list[Any] = []

    def substitute(failure: Exception, *args: Any, fails: bool) -> AsyncIterator[int]:
        seen.append((failure, args, fails))
        return _numbers(7, 8, fails=False)

    assert await _read(Policy().with_fallback(substitute), fails=True) == [7, 8]
    ((failure, args, fails),) = seen
    assert isinstance(failure, ConnectionError)
    assert (args, fails) == ((), True)


async def test_a_stream_that_has_handed_items_on_is_not_answered():
    """Nothing can take their place any more."""
    policy = Policy().with_fallback(value="never")
    read: list[int] = []

    with pytest.raises(ConnectionError, match="broken off"):
        await _read_into(read, policy.stream(_numbers, 1, 2))

    assert read == [1, 2]
    assert policy.snapshot()["stages"][0]["answered"] == 0


async def test_another_policy_answers_for_a_stream():
    """It opens the source again, under its own stages."""
    opened = []

    async def source(name: str) -> AsyncIterator[int]:
        opened.append(name)
        if len(opened) < 3:
            raise ConnectionError
        yield 1
        yield 2

    policy = Policy().with_fallback(policy=Policy().with_retry(2, wait=1))

    async with policy.stream(source, "name") as items:
        read = [item async for item in items]

    assert read == [1, 2]
    assert opened == ["name"] * 3


async def test_a_stream_that_another_policy_has_begun_is_not_begun_again():
    """Once an item is out, neither policy tries again: the reader would get it twice."""
    opened, read = [], []

    async def source() -> AsyncIterator[int]:
        opened.append(len(opened))
        if len(opened) == 1:
            raise ConnectionError
        yield 1
        raise ConnectionError("broken off")

    inner = Policy().with_retry(5, wait=0)
    policy = (
        Policy()
        .with_retry(5, wait=0, retry_on=Exception)
        .with_stage(Fallback(FallbackOptions(policy=inner, fallback_on=ConnectionError)))
    )

    with pytest.raises(ConnectionError, match="broken off"):
        await _read_into(read, policy.stream(source))

    assert read == [1]
    assert opened == [0, 1]


# --- cancellation -----------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["function", "policy", "predicate", "discard"])
def test_cancelled_at_any_point_it_ends_cancelled_and_leaves_nothing(answer: str):
    """Cancel sweep: in the operation, in the predicate, in ``discard``, in the answer."""

    async def is_asked(failure: Exception) -> bool:
        await asyncio.sleep(1)
        return True

    def build() -> Policy:
        policy = Policy(classify_result=_refuses_negative, discard=scripted(then=takes(1)))
        match answer:
            case "function":
                return policy.with_fallback(scripted(takes(1, 2)))
            case "policy":
                return policy.with_fallback(policy=Policy().with_concurrency(1))
            case _:
                return policy.with_fallback(value=2, fallback_on=is_asked)

    async def scenario(sweep: Sweep) -> Policy:
        policy = build()
        failure = -1 if answer in ("discard", "function") else ConnectionError()
        sweep.victim(policy.call(scripted(takes(1, failure), takes(1, 2))))
        return policy

    def check(policy: Policy) -> None:
        stage: Any = policy.stages[0]
        inner = stage.options.policy
        assert inner is None or inner.snapshot()["stages"][0]["in_flight"] == 0
        assert stage.snapshot()["answered"] <= 1

    assert cancel_sweep(scenario, check) > 3


def test_one_stage_serves_one_loop_after_another():
    """It holds nothing of a loop."""
    policy = Policy().with_fallback(scripted(then=takes(1, "answer")))

    for _ in range(3):
        assert run(policy.call(scripted(CallTimeoutError("late")))) == "answer"

    assert policy.snapshot()["stages"][0]["answered"] == 3
