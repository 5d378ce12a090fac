"""What rotapool does, done with a Pool (rows R1 to R30 of docs/parity.md)."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import logging
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

from penstock import (
    CallTimeoutError,
    ConfigError,
    CooldownResource,
    DisableResource,
    NoResourceError,
    Policy,
    Pool,
    Resource,
    TryAgain,
    current_call,
    current_lease,
)
from penstock.events import AttemptStarted
from penstock.pools.news import Change
from penstock.testing import EventLog, VirtualTimeLoop, scripted, takes

pytestmark = pytest.mark.virtual_time

TABLE = (10.0, 20.0, 40.0, 80.0)


def now() -> float:
    """Return the second of the running loop."""
    return asyncio.get_running_loop().time()


def shown(pool: Pool[Any], name: str) -> dict[str, Any]:
    """Return what the snapshot says of one resource."""
    return pool.snapshot()["resources"][name]


def start(pool: Any, work: Callable[..., Awaitable[Any]], calls: int) -> list[asyncio.Task[Any]]:
    """Begin so many calls at once."""
    return [asyncio.create_task(pool.run(work)) for _ in range(calls)]


async def named(resource: Resource[Any]) -> str | None:
    """Return the id of whatever serves the call."""
    return resource.id


async def named_slowly(resource: Resource[Any]) -> str | None:
    """Return the id after a second."""
    await asyncio.sleep(1)
    return resource.id


async def cool(pool: Any, *signals: BaseException | type[BaseException]) -> None:
    """Let one call after another fail with these signals, each in one attempt."""
    for signal in signals:
        with pytest.raises(NoResourceError):
            await pool.using(attempts=1).run(scripted(signal))


# R1


@pytest.mark.parametrize(
    ("given", "named_as"),
    [
        (["value"], "1"),
        (("value",), "1"),
        ({"a": "value"}, "a"),
        ([Resource("value", "a")], "a"),
        ({"a": Resource("value")}, "a"),
    ],
    ids=["list", "tuple", "dict", "resources", "dict of resources"],
)
async def test_r1_resources_are_a_list_or_a_dict_of_values_or_resources(
    given: Any, named_as: str
) -> None:
    """Whatever they are given as, an operation gets the resource with its id and value."""
    pool: Pool[str] = Pool(given)

    async def work(resource: Resource[str]) -> tuple[str | None, str]:
        return resource.id, resource.value

    assert await pool.run(work) == (named_as, "value")


def test_r1_two_equal_ids_are_refused_by_name() -> None:
    """The error says which id is there twice."""
    with pytest.raises(ConfigError, match="two resources have the id 'same'"):
        Pool([Resource(1, "same"), Resource(2, "same")])


@pytest.mark.parametrize("given", [[], {}, (), {"a": Resource(1, "b")}, {"": 1}, {7: 1}])
def test_r1_nothing_to_rotate_over_and_bad_ids_are_refused(given: Any) -> None:
    """An empty pool, an empty id, one that is no text, and a key that is not the id."""
    with pytest.raises(ConfigError, match="pool: "):
        Pool(given)


@pytest.mark.parametrize("name", ["", "  ", 7, b"a"])
def test_r1_an_id_is_a_text_that_is_not_empty(name: Any) -> None:
    """It is what logs and errors call the resource by."""
    with pytest.raises(ConfigError, match="resource: 'id' must be a text that is not empty"):
        Resource("value", name)


@pytest.mark.parametrize("cap", [0, -1, 1.5, True, float("nan"), float("inf"), "1"])
def test_r1_a_cap_is_a_whole_number_from_1(cap: Any) -> None:
    """A resource that could never serve, or half a use, is a mistake."""
    with pytest.raises(ConfigError, match="resource: 'max_in_flight' must be a whole number"):
        Resource("value", "a", max_in_flight=cap)


# R2


async def test_r2_a_call_beyond_the_caps_fails_and_no_cap_is_exceeded() -> None:
    """Two resources with room for three calls together: the fourth is refused at once."""
    pool = Pool([Resource("x", "a", max_in_flight=1), Resource("y", "b", max_in_flight=2)])
    held = Counter[str | None]()
    most = Counter[str | None]()

    async def work(resource: Resource[str]) -> None:
        held[resource.id] += 1
        most[resource.id] = max(most[resource.id], held[resource.id])
        await asyncio.sleep(5)
        held[resource.id] -= 1

    calls = start(pool, work, 3)
    await asyncio.sleep(1)
    with pytest.raises(NoResourceError) as caught:
        await pool.run(work)

    assert (caught.value.case, now()) == ("all_full", 1)
    await asyncio.gather(*calls)
    assert most == {"a": 1, "b": 2}


async def test_r2_a_call_beyond_the_caps_waits_if_it_is_asked_to() -> None:
    """Seven calls on one exclusive resource come one after another, in order."""
    pool = Pool([Resource("x", "a", max_in_flight=1)], max_wait=100)
    work = scripted(then=takes(5, "done"))

    results = await asyncio.gather(*start(pool, work, 7))

    assert results == ["done"] * 7
    assert work.most_in_flight == 1
    assert work.times == [0, 5, 10, 15, 20, 25, 30]


# R3


async def test_r3_calls_one_after_another_visit_each_before_any_twice() -> None:
    """Nobody is busy, so whoever rested longest serves."""
    pool = Pool({"a": 1, "b": 2, "c": 3})

    visited = [await pool.run(named) for _ in range(6)]

    assert visited == ["a", "b", "c", "a", "b", "c"]


async def test_r3_the_busy_one_is_chosen_last() -> None:
    """Fewest uses under way count before the time since the last use."""
    pool = Pool({"a": 1, "b": 2, "c": 3})
    busy = asyncio.create_task(pool.run(named_slowly))
    await asyncio.sleep(0)

    calls = [asyncio.create_task(pool.run(named_slowly)) for _ in range(3)]

    assert await asyncio.gather(busy, *calls) == ["a", "b", "c", "a"]


# R4


async def test_r4_while_the_first_can_serve_no_call_reaches_the_second() -> None:
    """Not even when many run at once; the second serves while the first is full or rests."""
    keys = [Resource(1, "first", max_in_flight=3), Resource(2, "second"), Resource(3, "third")]
    pool = Pool(keys, pick="primary_backup", cooldown=10)

    at_once = await asyncio.gather(*start(pool, named_slowly, 4))
    later = [await pool.run(named) for _ in range(3)]
    await pool.run(scripted(CooldownResource, "elsewhere"))
    meanwhile = await pool.run(named)
    await asyncio.sleep(10)

    assert at_once == ["first", "first", "first", "second"]
    assert later == ["first"] * 3
    assert meanwhile == "second"
    assert await pool.run(named) == "first"


def test_r4_an_unknown_way_to_pick_is_refused_with_the_nearest_one() -> None:
    """The error lists what is allowed."""
    with pytest.raises(ConfigError, match=r"'pick' must be one of .*primary_backup") as caught:
        Pool([1], pick="primary_backups")

    assert "got 'primary_backups'" in str(caught.value)


# R5


@pytest.mark.parametrize("failure", [ConnectionError, TimeoutError, ValueError, RuntimeError])
async def test_r5_an_ordinary_error_is_the_callers_after_one_attempt(
    failure: type[Exception],
) -> None:
    """It is the same object, nothing is retried, and the resource stays in the rotation."""
    pool = Pool({"a": 1, "b": 2})
    error = failure("the operation's own")
    work = scripted(error)

    with pytest.raises(failure) as caught:
        await pool.run(work)

    assert caught.value is error
    assert len(work.calls) == 1
    assert shown(pool, "a")["standing"] == "ready"
    assert [await pool.run(named) for _ in range(2)] == ["b", "a"]


async def test_r5_signals_move_the_resource_and_the_call_goes_on_elsewhere() -> None:
    """One cools down, one is disabled, the third serves; no pause in between."""
    pool = Pool({"a": 1, "b": 2, "c": 3})
    work = scripted(CooldownResource(30), DisableResource("revoked"), "served")

    result = await pool.run(work)

    assert (result, now()) == ("served", 0)
    assert [shown(pool, name)["standing"] for name in "abc"] == ["cooling", "disabled", "ready"]


# R6


async def test_r6_a_transient_signal_costs_an_attempt_and_no_cooldown() -> None:
    """The same resource serves again; nobody rests, escalates or is cancelled."""
    pool = Pool({"only": 1})
    beside = asyncio.create_task(pool.run(scripted(takes(5, "beside"))))
    await asyncio.sleep(0)
    work = scripted(TryAgain("busy"), "served")

    result = await pool.run(work)

    assert (result, len(work.calls)) == ("served", 2)
    assert await beside == "beside"
    assert (pool.stats().cooldowns, pool.stats().displaced) == (0, 0)
    assert (shown(pool, "only")["level"], shown(pool, "only")["standing"]) == (0, "ready")


async def test_r6_a_transient_signal_can_name_its_own_pause() -> None:
    """Without one it is ``retry_delay``, give or take half."""
    pool = Pool({"only": 1}, retry_delay=10)
    stated, drawn = scripted(TryAgain(after=3), "served"), scripted(TryAgain, "served")

    await pool.run(stated)
    await pool.run(drawn)

    assert stated.times == [0, 3]
    assert 5 <= drawn.times[1] - drawn.times[0] <= 15


# R7


async def test_r7_cooldowns_in_a_row_follow_the_table_and_stay_at_its_end() -> None:
    """Each attempt comes as soon as the rest before it is over."""
    pool = Pool({"only": 1}, cooldown=TABLE)
    rests: list[float] = []

    for _ in range(6):
        await cool(pool, CooldownResource())
        rests.append(shown(pool, "only")["cooling_for"])
        await asyncio.sleep(rests[-1])

    assert rests == [*TABLE, TABLE[-1], TABLE[-1]]


async def test_r7_seconds_of_a_signal_override_the_table_and_count_as_a_step() -> None:
    """The next one without seconds is at the second step."""
    pool = Pool({"only": 1}, cooldown=TABLE)

    await cool(pool, CooldownResource(3))
    first = shown(pool, "only")["cooling_for"]
    await asyncio.sleep(3)
    await cool(pool, CooldownResource())

    assert (first, shown(pool, "only")["cooling_for"]) == (3, TABLE[1])


@pytest.mark.parametrize("cancel_younger", [True, False])
async def test_r7_a_short_explicit_rest_never_ends_a_longer_one(cancel_younger: bool) -> None:
    """Two uses fail one after the other, the second with less; the first rest stands."""
    pool = Pool({"only": 1}, cancel_younger=cancel_younger)
    long = scripted(takes(1, CooldownResource(100)))
    short = scripted(takes(2, CooldownResource(1)))

    uses = [*start(pool, short, 1), *start(pool, long, 1)]
    await asyncio.gather(*uses, return_exceptions=True)

    assert shown(pool, "only")["cooling_for"] == 100 - 1


async def test_r7_a_rest_of_no_seconds_is_over_at_once() -> None:
    """Standing included: nobody has to look first."""
    pool = Pool({"only": 1})

    await cool(pool, CooldownResource(0))

    assert shown(pool, "only")["standing"] == "ready"
    assert await pool.run(named) == "only"


# R8


async def test_r8_an_older_success_during_a_cooldown_changes_nothing() -> None:
    """It began before the failure and tells nothing about the time after it."""
    pool = Pool({"only": 1}, cooldown=TABLE)
    older = asyncio.create_task(pool.run(scripted(takes(5, "late success"))))
    await asyncio.sleep(0)
    await cool(pool, CooldownResource())

    result = await older

    assert result == "late success"
    assert shown(pool, "only")["standing"] == "cooling"
    assert (shown(pool, "only")["level"], shown(pool, "only")["cooling_for"]) == (1, TABLE[0] - 5)


async def test_r8_an_older_success_after_a_cooldown_changes_nothing_either() -> None:
    """The next rest is the second step; only a use that began later resets the count."""
    pool = Pool({"only": 1}, cooldown=TABLE)
    older = asyncio.create_task(pool.run(scripted(takes(15, "late success"))))
    await asyncio.sleep(0)
    await cool(pool, CooldownResource())
    await older
    level_after_the_older = shown(pool, "only")["level"]

    await cool(pool, CooldownResource())
    second = shown(pool, "only")["cooling_for"]
    await asyncio.sleep(second)
    await pool.run(named)
    await cool(pool, CooldownResource())

    assert (level_after_the_older, second) == (1, TABLE[1])
    assert shown(pool, "only")["cooling_for"] == TABLE[0]


async def test_r8_a_success_that_sends_its_resource_to_rest_resets_nothing() -> None:
    """The answer was good, and said that the quota is spent: the count waits for the next one."""
    pool = Pool({"only": 1}, cooldown=TABLE)
    await cool(pool, CooldownResource())
    await asyncio.sleep(TABLE[0])

    async def last_of_the_quota(_resource: object) -> str:
        current_lease().report(remaining=0, resets_in=30)
        return "good"

    result = await pool.run(last_of_the_quota)

    assert (result, shown(pool, "only")["standing"]) == ("good", "cooling")
    assert (shown(pool, "only")["level"], shown(pool, "only")["cooling_for"]) == (1, 30)


# R9


@pytest.mark.parametrize(
    "table",
    [[], (), [30, -1], -1, [float("nan")], float("inf"), ["30"], "30", [True], None, {30}],
)
def test_r9_a_table_that_means_nothing_is_refused(table: Any) -> None:
    """When the pool is built, not in the middle of a failure."""
    with pytest.raises(ConfigError, match="pool: 'cooldown' must be seconds of at least 0"):
        Pool([1], cooldown=table)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "30"])
def test_r9_seconds_that_mean_nothing_are_refused(seconds: Any) -> None:
    """Where the signal is made, in the operation's own frame."""
    with pytest.raises(ConfigError, match=r"CooldownResource\.seconds must be a finite number"):
        CooldownResource(seconds)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "30"])
async def test_r9_seconds_said_by_the_lease_are_checked_too(seconds: Any) -> None:
    """The call fails with the mistake, and nobody rests."""
    pool = Pool({"only": 1})

    async def work(_resource: object) -> None:
        current_lease().cooldown(seconds)

    with pytest.raises(ConfigError, match=r"lease\.cooldown: 'seconds' must be"):
        await pool.run(work)

    assert shown(pool, "only")["standing"] == "ready"


# R10


async def test_r10_no_late_result_brings_a_disabled_resource_back() -> None:
    """A success, a cooldown that would end, a transient signal, a failure: none of them."""
    pool = Pool({"only": 1}, attempts=1, cancel_younger=False)
    late = [takes(2, "fine"), takes(3, CooldownResource(1)), takes(4, TryAgain), takes(5, OSError)]
    uses = start(pool, scripted(*late), 4)
    refused = start(pool, scripted(takes(1, DisableResource("revoked"))), 1)
    await asyncio.gather(*uses, *refused, return_exceptions=True)
    await asyncio.sleep(10_000)
    work = scripted(then="never")

    with pytest.raises(NoResourceError) as caught:
        await pool.run(work)

    assert caught.value.case == "all_disabled"
    assert work.calls == []
    assert shown(pool, "only")["disabled"] == "revoked"
    assert pool.stats().cooldowns == 0


# R11


@pytest.mark.parametrize("signal", [CooldownResource(60), DisableResource("revoked")])
async def test_r11_failing_fast_ends_with_the_resources(signal: Exception) -> None:
    """Two resources and five attempts allowed: two are made."""
    pool = Pool({"a": 1, "b": 2}, attempts=5)
    work = scripted(then=signal)

    with pytest.raises(NoResourceError):
        await pool.run(work)

    assert len(work.calls) == 2
    assert now() == 0


async def test_r11_attempts_are_calls_in_total_however_long_it_may_wait() -> None:
    """Three by default; each picks anew."""
    pool = Pool({str(n): n for n in range(9)}, max_wait=1000)
    visited: list[str | None] = []

    async def work(resource: Resource[int]) -> None:
        visited.append(resource.id)
        raise CooldownResource(10)

    with pytest.raises(NoResourceError) as caught:
        await pool.run(work)

    assert (visited, caught.value.case) == (["0", "1", "2"], "attempts_spent")


@pytest.mark.parametrize("attempts", [0, -1, 1.5, float("nan"), True, "3"])
def test_r11_attempts_that_call_nothing_are_refused(attempts: Any) -> None:
    """When the pool, or a view of it, is built."""
    with pytest.raises(ConfigError, match="pool: 'attempts' must be a whole number"):
        Pool([1], attempts=attempts)
    with pytest.raises(ConfigError, match="pool: 'attempts' must be a whole number"):
        Pool([1]).using(attempts=attempts)


# R12


async def test_r12_no_pause_follows_the_final_attempt() -> None:
    """Three attempts, two pauses."""
    pool = Pool({"only": 1}, retry_delay=10)
    work = scripted(then=TryAgain)

    with pytest.raises(NoResourceError) as caught:
        await pool.run(work)

    assert len(work.calls) == 3
    assert now() == work.times[-1]
    assert all(5 <= later - before <= 15 for before, later in pairwise(work.times))
    assert caught.value.case == "attempts_spent"


async def test_r12_a_pause_never_outlasts_the_deadline() -> None:
    """One that would is not begun: the caller has the failure now."""
    pool = Pool({"only": 1}, retry_delay=10)

    with pytest.raises(NoResourceError) as caught:
        await pool.using(start_within=4).run(scripted(TryAgain))

    assert (caught.value.case, now()) == ("deadline", 0)
    assert isinstance(caught.value.__cause__, TryAgain)


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), "1"])
def test_r12_a_pause_that_means_nothing_is_refused(delay: Any) -> None:
    """When the pool is built."""
    with pytest.raises(ConfigError, match="pool: 'retry_delay' must be"):
        Pool([1], retry_delay=delay)


# R13


async def test_r13_a_deadline_that_has_passed_makes_no_attempt() -> None:
    """Within no time at all nothing can start."""
    pool = Pool({"only": 1})
    work = scripted(then="never")

    with pytest.raises(NoResourceError) as caught:
        await pool.using(start_within=0).run(work)

    assert caught.value.case == "deadline"
    assert work.calls == []


async def test_r13_a_running_attempt_may_outlive_the_deadline() -> None:
    """It bounds when attempts start; the one after it is not made."""
    pool = Pool({"a": 1, "b": 2})
    slow = scripted(takes(10, "late"))
    fails_late = scripted(takes(10, CooldownResource(5)), "never")

    result = await pool.using(start_within=3).run(slow)
    with pytest.raises(NoResourceError) as caught:
        await pool.using(start_within=3).run(fails_late)

    assert (result, slow.times) == ("late", [0])
    assert (caught.value.case, len(fails_late.calls)) == ("deadline", 1)
    assert isinstance(caught.value.__cause__, CooldownResource)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "1"])
def test_r13_a_deadline_that_means_nothing_is_refused(seconds: Any) -> None:
    """It is seconds from the call's start, so no view of a pool ages."""
    with pytest.raises(ConfigError, match="pool: 'start_within' must be"):
        Pool([1]).using(start_within=seconds)


async def test_r13_seconds_count_from_each_call() -> None:
    """A decorated function keeps its options for good."""
    pool = Pool({"only": 1})
    late = pool.using(start_within=1).rotated(named)
    await asyncio.sleep(1000)

    assert await late() == "only"


# R14


async def test_r14_a_waiting_call_succeeds_just_after_the_cooldown() -> None:
    """A tenth of a second of rest, not a moment more."""
    pool = Pool({"only": 1})
    await cool(pool, CooldownResource(0.1))

    result = await pool.using(max_wait=5).run(named)

    assert (result, now()) == ("only", pytest.approx(0.1, abs=1e-6))


@pytest.mark.parametrize("view", [{"max_wait": 0.05}, {"max_wait": 5, "start_within": 0.05}])
async def test_r14_a_wait_that_cannot_end_in_time_is_not_begun(view: dict[str, float]) -> None:
    """The error says when somebody is back."""
    pool = Pool({"only": 1})
    await cool(pool, CooldownResource(0.1))

    with pytest.raises(NoResourceError) as caught:
        await pool.using(**view).run(named)

    assert (caught.value.case, now()) == ("deadline", 0)
    assert caught.value.retry_after == pytest.approx(0.1)


async def test_r14_nobody_waits_for_a_disabled_resource() -> None:
    """Nothing but an administrator brings it back."""
    pool = Pool({"only": 1})
    pool.disable("only")

    with pytest.raises(NoResourceError) as caught:
        await pool.using(max_wait=1000).run(named)

    assert (caught.value.case, now()) == ("all_disabled", 0)


@pytest.mark.parametrize("event", ["add", "enable", "remove", "disable"])
async def test_r14_a_waiting_call_is_woken_by_whatever_matters(event: str) -> None:
    """Another one to serve it, or the end of its hope: it hears of both at once."""
    pool = Pool({"a": 1, "out": 2})
    pool.disable("out")
    await cool(pool, CooldownResource(100))
    waiting = asyncio.create_task(pool.using(max_wait=1000).run(named))
    await asyncio.sleep(1)

    if event == "add":
        pool.add(Resource(3, "new"))
    else:
        getattr(pool, event)("out" if event == "enable" else "a")
    (outcome,) = await asyncio.gather(waiting, return_exceptions=True)

    expected = {"add": "new", "enable": "out"}.get(event)
    assert now() == 1
    if expected:
        assert outcome == expected
    else:
        assert (type(outcome), outcome.case) == (NoResourceError, "all_disabled")


async def test_r14_a_longer_rest_ends_the_wait_of_those_whom_it_makes_pointless() -> None:
    """A server's later word moves the return beyond the time of the first, not of the second."""
    pool = Pool({"only": 1})
    late = asyncio.create_task(pool.run(scripted(takes(2, CooldownResource(100)))))
    await asyncio.sleep(0)
    await cool(pool, CooldownResource(10))

    hopeless = asyncio.create_task(pool.using(max_wait=50).run(named))
    patient = asyncio.create_task(pool.using(max_wait=500).run(named))
    await asyncio.wait([hopeless])
    told = now()
    served = await patient
    await asyncio.gather(late, return_exceptions=True)

    assert isinstance(hopeless.exception(), NoResourceError)
    assert told == 2
    assert (served, now()) == ("only", 102)


# R15


class Plain:
    """An awaitable that is neither a coroutine nor a Future: nothing says what a cancel does."""

    def __init__(self, seconds: float, result: str) -> None:
        self.seconds = seconds
        self.result = result

    def __await__(self) -> Generator[Any, None, str]:
        yield from asyncio.sleep(self.seconds).__await__()
        return self.result


async def in_sleep(seconds: float, result: Any) -> Any:
    """Wait, then return the result or raise it."""
    await asyncio.sleep(seconds)
    if isinstance(result, BaseException):
        raise result
    return result


def future_of(seconds: float, result: str) -> asyncio.Future[str]:
    """Return a Future that is done in so many seconds, if nobody cancels it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[str] = loop.create_future()
    loop.call_later(seconds, lambda: future.done() or future.set_result(result))
    return future


@pytest.mark.parametrize("signal", [CooldownResource(60), DisableResource("revoked")])
async def test_r15_younger_uses_begin_again_elsewhere_and_older_ones_run_on(
    signal: Exception,
) -> None:
    """Coroutines and Futures are cancelled, plain awaitables are not, the elder is left alone."""
    pool = Pool({"bad": 1, "good": 2}, pick="primary_backup")
    visited: dict[str, list[str | None]] = {}

    def use(name: str, make: Callable[[], Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        def operation(resource: Resource[int]) -> Awaitable[Any]:
            visited.setdefault(name, []).append(resource.id)
            return make()

        return operation

    shapes = {
        "older": lambda: in_sleep(5, "older"),
        "failing": lambda: in_sleep(1, signal if len(visited["failing"]) == 1 else "recovered"),
        "coroutine": lambda: in_sleep(5, "coroutine"),
        "future": lambda: future_of(5, "future"),
        "task": lambda: asyncio.ensure_future(in_sleep(5, "task")),
        "plain": lambda: Plain(5, "plain"),
    }

    results = await asyncio.gather(*(pool.run(use(*shape)) for shape in shapes.items()))

    assert results == ["older", "recovered", "coroutine", "future", "task", "plain"]
    again = ["bad", "good"]
    assert visited == {
        "older": ["bad"],
        "failing": again,
        "coroutine": again,
        "future": again,
        "task": again,
        "plain": ["bad"],
    }
    assert pool.stats().displaced == 3


async def test_r15_who_is_displaced_does_not_pay_for_it() -> None:
    """With one attempt allowed it is run again; it has not failed."""
    pool = Pool({"bad": 1, "good": 2}, pick="primary_backup")
    failing = asyncio.create_task(pool.run(scripted(takes(1, CooldownResource(60)), "failing")))
    await asyncio.sleep(0)

    result = await pool.using(attempts=1).run(scripted(takes(5), "innocent"))

    assert (result, now()) == ("innocent", 1)
    assert await failing == "failing"


async def test_r15_it_can_be_turned_off_and_no_administrator_cancels() -> None:
    """Uses run on to their end on a resource that is gone for new ones."""
    pool = Pool({"bad": 1, "good": 2}, pick="primary_backup", cancel_younger=False)
    failing = asyncio.create_task(pool.run(scripted(takes(1, CooldownResource(60)), "failing")))
    younger = start(pool, scripted(then=takes(5, "younger")), 2)
    admin = Pool({"only": 1})
    disabled = start(admin, scripted(takes(5, "disabled")), 1)
    await asyncio.sleep(1)
    admin.disable("only")

    results = await asyncio.gather(failing, *younger, *disabled)

    assert results == ["failing", "younger", "younger", "disabled"]
    assert (pool.stats().displaced, admin.stats().displaced) == (0, 0)


# R16


@pytest.mark.parametrize("first", ["own", "foreign"])
async def test_r16_a_callers_cancel_wins_in_the_turn_of_the_pools_own(first: str) -> None:
    """In either order; the operation is not run again."""
    pool = Pool({"bad": 1, "good": 2}, pick="primary_backup")
    older = asyncio.create_task(pool.run(named_slowly))
    await asyncio.sleep(0)
    lease = next(iter(pool.machine.members["bad"].candidates[0].leases.values()))
    work = scripted(then=takes(100))
    caller = asyncio.create_task(pool.run(work))
    await asyncio.sleep(0)

    for cancel in (lease.cooldown, caller.cancel)[:: 1 if first == "own" else -1]:
        cancel()
    (outcome,) = await asyncio.gather(caller, return_exceptions=True)

    assert isinstance(outcome, asyncio.CancelledError)
    assert (len(work.calls), work.in_flight) == (1, 0)
    await older
    assert pool.stats().in_flight == 0


async def test_r16_a_task_that_swallowed_a_cancel_is_displaced_as_any_other() -> None:
    """Its count of cancels stands above 0 for good; what changes during the attempt counts."""
    pool = Pool({"bad": 1, "good": 2}, pick="primary_backup")
    failing = asyncio.create_task(pool.run(scripted(takes(2, CooldownResource(60)), "failing")))

    async def caller() -> Any:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(100)
        task = asyncio.current_task()
        assert task is not None
        return await pool.run(scripted(takes(100), "elsewhere")), task.cancelling()

    task = asyncio.create_task(caller())
    await asyncio.sleep(1)
    task.cancel()

    assert await task == ("elsewhere", 1)
    assert await failing == "failing"


async def test_r16_an_operation_that_cancels_itself_ends_its_call() -> None:
    """Nobody asked for it to be run again."""
    pool = Pool({"a": 1, "b": 2})
    work = scripted(asyncio.CancelledError)

    (outcome,) = await asyncio.gather(*start(pool, work, 1), return_exceptions=True)

    assert isinstance(outcome, asyncio.CancelledError)
    assert len(work.calls) == 1
    assert shown(pool, "a")["standing"] == "ready"


# R17

SHAPES: dict[str, Callable[[Any], Any]] = {
    "coroutine": lambda _: in_sleep(1, "done"),
    "future": lambda _: future_of(1, "done"),
    "task": lambda _: asyncio.ensure_future(in_sleep(1, "done")),
    "awaitable": lambda _: Plain(1, "done"),
    "partial": functools.partial(in_sleep, result="done"),
    "coroutine function": scripted(then="done"),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_r17_each_shape_of_operation_works(shape: str) -> None:
    """Whatever it returns is awaited, if it can be."""
    operation = SHAPES[shape]
    pool = Pool({"only": 1})
    if shape == "partial":
        operation = functools.partial(lambda result, _resource: in_sleep(1, result), "done")

    assert await pool.run(operation) == "done"


async def test_r17_a_result_that_cannot_be_awaited_is_a_type_error_after_one_call() -> None:
    """The resource is not to blame."""
    pool = Pool({"a": 1, "b": 2})
    calls: list[str | None] = []

    def work(resource: Resource[int]) -> Any:
        calls.append(resource.id)
        return 42

    with pytest.raises(TypeError, match=r"returns an awaitable; .*work returned int"):
        await pool.run(work)

    assert calls == ["a"]
    assert shown(pool, "a")["standing"] == "ready"


async def test_r17_an_operation_may_raise_before_it_returns_an_awaitable() -> None:
    """A signal moves the resource, an error reaches the caller."""
    pool = Pool({"a": 1, "b": 2})
    outcomes: list[Any] = [CooldownResource(10), in_sleep(0, "done"), ZeroDivisionError("own")]

    def work(_resource: object) -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert await pool.run(work) == "done"
    with pytest.raises(ZeroDivisionError, match="own"):
        await pool.run(work)
    assert outcomes == []


# R18


async def test_r18_a_decorated_function_keeps_its_name_and_takes_the_callers_arguments() -> None:
    """The resource comes first, the caller's arguments after it, also on a method."""
    pool = Pool({"only": "value"})

    @pool.rotated
    async def search(key: Resource[str], query: str, *, limit: int = 10) -> tuple[str, str, int]:
        """Search."""
        return key.value, query, limit

    class Client:
        @pool.using(attempts=2).rotated
        async def fetch(self, key: Resource[str], url: str) -> tuple[str, str, str]:
            return type(self).__name__, key.value, url

    assert await search("what", limit=3) == ("value", "what", 3)
    assert await Client().fetch("where") == ("Client", "value", "where")
    assert (search.__name__, search.__doc__) == ("search", "Search.")
    assert list(inspect.signature(search).parameters) == ["query", "limit"]


# R19


async def test_r19_the_request_id_stands_on_every_attempt() -> None:
    """On the call that an operation can ask for, and on the events of a policy."""
    pool = Pool({"a": 1, "b": 2, "c": 3})
    seen: list[str | None] = []
    log = EventLog()
    policy = Policy("told", observers=[log]).with_retry(attempts=3, wait=0).rotating(pool)

    async def work(_resource: object) -> str:
        seen.append(current_call().context.overrides.request_id)
        if len(seen) % 2:
            raise TryAgain(after=0)
        return "done"

    await pool.using(request_id="req-7").run(work)
    await policy.using(request_id="req-8").call(work)

    assert seen == ["req-7", "req-7", "req-8", "req-8"]
    assert [event.request_id for event in log.of(AttemptStarted)] == ["req-8", "req-8"]


# R20


async def test_r20_the_error_says_which_case_it_is_and_gives_the_last_failure() -> None:
    """Two keys: one disabled, one cooling; no third to try."""
    pool = Pool({"a": 1, "b": 2}, attempts=5)
    last = CooldownResource(60, reason="429")

    with pytest.raises(NoResourceError, match=r"1 cooling down .*60 s.*1 disabled") as info:
        await pool.run(scripted(DisableResource("revoked"), last))

    assert (info.value.case, info.value.retry_after) == ("all_cooling", 60)
    assert info.value.__cause__ is last


async def test_r20_who_was_displaced_last_reports_what_displaced_it() -> None:
    """Not a CancelledError, of which it knows nothing."""
    pool = Pool({"only": 1})
    failing, displaced = start(pool, scripted(takes(1, CooldownResource(60, "429")), takes(9)), 2)

    await asyncio.wait([failing, displaced])

    error = displaced.exception()
    assert isinstance(error, NoResourceError)
    assert error.case == "all_cooling"
    assert "lost to an older call's failure (429)" in str(error.__cause__)


# R21


async def test_r21_after_a_cooldown_without_traffic_the_snapshot_says_ready() -> None:
    """Nobody has to call first."""
    pool = Pool({"only": 1})
    await cool(pool, CooldownResource(10))
    during = shown(pool, "only")
    await asyncio.sleep(10)
    after = shown(pool, "only")

    assert (during["standing"], during["cooling_for"]) == ("cooling", 10)
    assert (after["standing"], after["cooling_for"]) == ("ready", 0)


async def test_r21_the_snapshot_shows_what_each_resource_does() -> None:
    """Uses under way, uses so far, its cap, its step; plain data without a value."""
    pool = Pool([Resource("value", "a", max_in_flight=4)])
    uses = start(pool, scripted(then=takes(5)), 2)
    await asyncio.sleep(1)

    state = shown(pool, "a")

    facts = {"in_flight": 2, "uses": 2, "max_in_flight": 4, "level": 0, "disabled": None}
    assert facts.items() <= state.items()
    assert "value" not in str(pool.snapshot()).replace("values", "")
    await asyncio.gather(*uses)


# R22


async def test_r22_an_added_resource_serves_at_once_and_wakes_a_waiter() -> None:
    """It comes last in the order, with a clean slate."""
    pool = Pool([Resource(1, "a", max_in_flight=1)])
    holder = start(pool, named_slowly, 1)
    await asyncio.sleep(0)
    waiter = asyncio.create_task(pool.using(max_wait=100).run(named))
    await asyncio.sleep(0.5)

    added = pool.add("value", "new")
    result = await waiter

    assert (added.id, result, now()) == ("new", "new", 0.5)
    assert list(pool.snapshot()["resources"]) == ["a", "new"]
    await asyncio.gather(*holder)


def test_r22_an_id_that_is_there_and_a_resource_with_two_ids_are_refused() -> None:
    """So is what a variable that is not set leaves behind."""
    pool = Pool({"a": "value"})

    with pytest.raises(ConfigError, match="resource 'a' is in the pool already"):
        pool.add(Resource("other", "a"))
    with pytest.raises(ConfigError, match="resource 'b' cannot be named"):
        pool.add(Resource("other", "b"), "c")
    with pytest.raises(ConfigError, match="the resource to add is None"):
        pool.add(None, "b")

    assert list(pool.snapshot()["resources"]) == ["a"]


# R23


async def test_r23_disable_lets_running_work_finish_and_enable_begins_at_step_one() -> None:
    """Enabling clears a cooldown too."""
    pool = Pool({"only": 1}, cooldown=TABLE)
    running = start(pool, named_slowly, 1)
    await asyncio.sleep(0)
    await cool(pool, CooldownResource(0), CooldownResource(0))
    pool.disable("only", "maintenance")
    pool.disable("only")

    with pytest.raises(NoResourceError):
        await pool.run(named)
    assert shown(pool, "only")["disabled"] == "maintenance"
    assert await asyncio.gather(*running) == ["only"]
    pool.enable("only")
    await cool(pool, CooldownResource())
    assert shown(pool, "only")["cooling_for"] == TABLE[0]
    pool.enable("only")
    pool.enable("only")
    assert await pool.run(named) == "only"


async def test_r23_what_began_before_it_was_enabled_does_not_take_it_out_again() -> None:
    """A refusal and a rate limit of the time before; the administrator knows better."""
    pool = Pool({"only": 1}, attempts=1)
    late = scripted(takes(1, CooldownResource), takes(2, DisableResource("revoked")))
    uses = start(pool, late, 2)
    await asyncio.sleep(0)
    pool.disable("only")

    pool.enable("only", "renewed")
    await asyncio.gather(*uses, return_exceptions=True)

    assert shown(pool, "only")["standing"] == "ready"


@pytest.mark.parametrize("action", ["remove", "enable", "disable"])
def test_r23_an_unknown_id_is_a_key_error(action: str) -> None:
    """It names the ids that there are, and not what may be a value in their place."""
    pool = Pool({"a": "sk-secret", "b": "sk-other"})

    with pytest.raises(KeyError, match=r"has no resource of that id; it has 'a', 'b'") as caught:
        getattr(pool, action)("sk-secret")

    assert "sk-secret" not in str(caught.value)


# R24


class Value:
    """A value that tells when nobody holds it any more."""


async def test_r24_a_removed_value_is_not_referenced_by_the_pool() -> None:
    """Once its last use has ended."""
    pool = Pool({"gone": Value(), "stays": Value()})
    value = weakref.ref(pool.machine.members["gone"].resource.value)
    running = start(pool, scripted(then=takes(5)), 1)
    await asyncio.sleep(1)

    pool.remove("gone")
    held_during_the_use = value() is not None
    await asyncio.gather(*running)
    running.clear()
    gc.collect()

    assert held_during_the_use
    assert value() is None


async def test_r24_a_resource_taken_in_again_counts_the_uses_that_drain() -> None:
    """Its cap holds over both; its slate is clean."""
    pool = Pool([Resource(1, "a", max_in_flight=2)])
    await cool(pool, CooldownResource(0))
    running = start(pool, named_slowly, 1)
    await asyncio.sleep(0.5)

    pool.remove("a")
    pool.add(Resource(1, "a", max_in_flight=1))
    with pytest.raises(NoResourceError) as caught:
        await pool.run(named)
    await asyncio.gather(*running)

    assert caught.value.case == "all_full"
    assert shown(pool, "a")["level"] == 0
    assert await pool.run(named) == "a"


async def test_r24_late_signals_of_a_removed_resource() -> None:
    """A cooldown is ignored, a disable still stops the younger uses; neither is told of."""
    changes: list[Change] = []
    pool = Pool({"gone": 1}, on_state_change=changes.append, attempts=1)
    signals = scripted(
        takes(1, CooldownResource(60)), takes(2, DisableResource("revoked")), takes(9), "elsewhere"
    )
    uses = start(pool, signals, 3)
    await asyncio.sleep(0.5)
    pool.add(Resource(2, "stays"))

    pool.remove("gone")
    outcomes = await asyncio.gather(*uses, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [NoResourceError, NoResourceError, str]
    assert now() == 2
    assert changes == []
    assert shown(pool, "stays")["standing"] == "ready"


# R25


async def test_r25_every_change_is_told_once_and_in_order() -> None:
    """A cooldown, a longer one, its end, a disable, an enable; not an add, a success, a remove."""
    changes: list[Change] = []
    pool = Pool({"a": 1}, on_state_change=changes.append)
    late = start(pool, scripted(takes(2, CooldownResource(30))), 1)
    await asyncio.sleep(0)
    await cool(pool, CooldownResource(10))
    await asyncio.gather(*late, return_exceptions=True)
    await asyncio.sleep(30)
    await pool.run(named)
    pool.add(Resource(2, "b"))
    for action in (pool.disable, pool.disable, pool.enable, pool.enable, pool.remove):
        action("b")

    told = [(change.seq, change.resource, change.old, change.new) for change in changes]

    assert told == [
        (1, "a", "ready", "cooling"),
        (2, "a", "cooling", "cooling"),
        (3, "a", "cooling", "ready"),
        (4, "b", "ready", "disabled"),
        (5, "b", "disabled", "ready"),
    ]
    assert [change.seconds for change in changes[:2]] == [10, 30]


@pytest.mark.parametrize("is_async", [False, True])
async def test_r25_a_raising_hook_changes_nothing_for_callers(
    is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told of every change all the same, and the log has what kind of error it was."""
    told: list[int] = []

    def fails(change: Change) -> None:
        told.append(change.seq)
        raise LookupError("lost in the hook")

    async def fails_later(change: Change) -> None:
        fails(change)

    pool = Pool({"a": 1, "b": 2, "c": 3}, on_state_change=fails_later if is_async else fails)

    with caplog.at_level(logging.ERROR, logger="penstock"):
        result = await pool.run(scripted(CooldownResource(5), DisableResource("no"), "served"))
        await asyncio.sleep(1)

    assert (result, told) == ("served", [1, 2])
    assert "pool 'pool': on_state_change raised LookupError" in caplog.text


# R26


async def test_r26_one_call_at_a_time_until_one_succeeds() -> None:
    """Of ten that come after the rest exactly one reaches the resource."""
    pool = Pool({"only": 1}, cooldown=TABLE)
    await cool(pool, CooldownResource())
    await asyncio.sleep(TABLE[0])
    work = scripted(takes(1, CooldownResource), takes(1, "well"), then=takes(1, "well"))

    first = await asyncio.gather(*start(pool, work, 10), return_exceptions=True)
    after_the_first = (len(work.calls), shown(pool, "only")["cooling_for"])
    await asyncio.sleep(TABLE[1])
    second = await asyncio.gather(*start(pool, work, 10), return_exceptions=True)
    third = await asyncio.gather(*start(pool, work, 10))

    assert after_the_first == (1, TABLE[1])
    assert Counter(map(type, first)) == {NoResourceError: 10}
    assert Counter(map(type, second)) == {NoResourceError: 9, str: 1}
    assert third == ["well"] * 10


async def test_r26_it_can_be_turned_off() -> None:
    """Then all of them come at once."""
    pool = Pool({"only": 1}, probe_on_recovery=False)
    await cool(pool, CooldownResource(10))
    await asyncio.sleep(10)
    work = scripted(then=takes(1, "well"))

    await asyncio.gather(*start(pool, work, 10))

    assert work.most_in_flight == 10


# R27


async def test_r27_gauges_and_counters() -> None:
    """By resource and for the pool; every standing has its number."""
    pool = Pool([Resource(1, "a", max_in_flight=1), Resource(2, "b"), Resource(3, "c")])
    pool.disable("c")
    await pool.run(scripted(CooldownResource(60), "served"))
    with pytest.raises(OSError, match="own"):
        await pool.run(scripted(OSError("own")))
    pool.enable("a")
    pool.disable("b")
    holder, *_ = start(pool, scripted(takes(5)), 1)
    await asyncio.sleep(1)

    stats = pool.stats()
    holder.cancel()
    await asyncio.wait([holder])
    after = pool.stats()

    gauges = {"ready": 0, "full": 1, "cooling": 0, "disabled": 2}
    assert gauges.items() <= stats.by_standing.items()
    assert sum(stats.by_standing.values()) == stats.total
    assert (stats.total, stats.in_flight, stats.waiting) == (3, 1, 0)
    assert (stats.uses, stats.successes, stats.failures) == (4, 1, 2)
    assert (stats.cooldowns, stats.disables) == (1, 2)
    assert (after.cancelled, after.in_flight) == (1, 0)
    by_id = {each.id: each for each in after.resources}
    assert (by_id["a"].uses, by_id["a"].failures, by_id["a"].cancelled) == (2, 1, 1)


async def test_r27_totals_go_on_when_a_resource_is_removed() -> None:
    """What it has done stays counted, and what it is doing; taken in again it begins at 0."""
    pool = Pool({"a": 1, "b": 2})
    await pool.run(scripted(CooldownResource(60), "served"))
    running = start(pool, named_slowly, 2)
    await asyncio.sleep(0)
    before = pool.stats()

    pool.remove("a")
    pool.remove("b")
    removed = pool.stats()
    pool.add(Resource(3, "b"))
    await asyncio.gather(*running)
    after = pool.stats()

    counters = ("uses", "successes", "failures", "cancelled", "displaced", "cooldowns", "disables")
    assert [getattr(removed, name) for name in counters] == [
        getattr(before, name) for name in counters
    ]
    assert (after.uses, after.successes) == (before.uses, before.successes + 2)
    assert [(each.id, each.uses) for each in after.resources] == [("b", 0)]


async def test_r27_a_call_that_is_refused_is_no_use() -> None:
    """Neither is one whose arguments are."""
    pool = Pool({"a": 1})
    pool.disable("a")

    with pytest.raises(NoResourceError):
        await pool.run(named)
    with pytest.raises(ConfigError):
        pool.using(attempts=0)

    assert (pool.stats().uses, pool.stats().failures) == (0, 0)


# R28


async def test_r28_stats_hold_what_a_collector_exports() -> None:
    """For each resource one standing of all, numbers for the rest, and the pools' names."""
    pools = [Pool({"a": 1, "b": 2}, name=name) for name in ("search", "mail")]
    await pools[0].run(scripted(CooldownResource(60), "served"))

    series = {
        (pool.snapshot()["pool"], each.id, standing): int(each.standing == standing)
        for pool in pools
        for each in pool.stats().resources
        for standing in pool.stats().by_standing
    }

    assert len(series) == 2 * 2 * len(pools[0].stats().by_standing)
    assert series["search", "a", "cooling"] == 1
    assert sum(series.values()) == 4
    assert {name for name, _, _ in series} == {"search", "mail"}


# R29


async def test_r29_no_value_is_in_a_repr_an_error_or_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of the pool, its resources, leases, changes, snapshots, stats and refusals."""
    secret = "sk-secret-4711"
    shown_texts: list[str] = []

    async def work(resource: Resource[str]) -> None:
        shown_texts.extend((repr(resource), str(resource), repr(current_lease())))
        raise CooldownResource(60)

    def hook(change: Change) -> None:
        shown_texts.append(repr(change))
        raise ValueError(secret)

    pool = Pool({"a": secret, "b": secret}, on_state_change=hook)
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(NoResourceError) as caught,
    ):
        await pool.run(work)
    shown_texts += [repr(pool), repr(pool.snapshot()), repr(pool.stats()), repr(pool.health())]
    shown_texts += [repr(caught.value), str(caught.value), caplog.text, repr(pool.options)]

    # Of each resource a line, and an error of the hook.
    assert len(caplog.records) == 4
    assert not [text for text in shown_texts if secret in text]


# R30


def test_r30_time_is_driven_by_the_loop_of_a_test() -> None:
    """Ten minutes of rest take no time, and say exactly when they are over."""
    pool = Pool({"only": 1})

    async def main() -> float:
        await cool(pool, CooldownResource(600))
        await pool.using(max_wait=3600).run(named)
        return now()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(main()) == 600


async def test_r30_a_policys_timeout_bounds_what_a_pool_alone_does_not() -> None:
    """The attempt itself: a pool's deadline is for starts."""
    policy = Policy("bounded").with_timeout(5).rotating({"only": 1})

    with pytest.raises(CallTimeoutError):
        await policy.call(scripted(takes(100)))

    assert now() == 5
