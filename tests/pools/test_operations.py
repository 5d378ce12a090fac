"""What becomes of operations that do not behave, through a pool alone and through a policy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from penstock import (
    CooldownResource,
    DisableResource,
    NoResourceError,
    Policy,
    Pool,
    Resource,
    TryAgain,
)
from penstock.testing import scripted, takes

pytestmark = pytest.mark.virtual_time

Run = Callable[..., Awaitable[Any]]

RUNS: dict[str, Callable[[Pool[Any]], Run]] = {
    "pool": lambda pool: pool.run,
    "policy": lambda pool: Policy("rotating").rotating(pool).call,
    "policy with retry": lambda pool: Policy("both").with_retry(wait=1).rotating(pool).call,
}

each_way = pytest.mark.parametrize("how", RUNS)


class StopEverythingError(BaseException):
    """What no ``except Exception`` catches."""


def now() -> float:
    """Return the second of the running loop."""
    return asyncio.get_running_loop().time()


def pool_of_two() -> Pool[int]:
    """Return a pool whose first resource serves as long as it can."""
    return Pool({"bad": 1, "good": 2}, pick="primary_backup")


def counts(pool: Pool[Any]) -> dict[str, int]:
    """Return what became of the uses, without zeros; and that nothing is held."""
    stats = pool.stats()
    assert (stats.in_flight, stats.waiting) == (0, 0)
    endings = ("successes", "failures", "cancelled", "displaced")
    return {name: getattr(stats, name) for name in endings if getattr(stats, name)}


async def outcome_of(awaitable: Awaitable[Any]) -> Any:
    """Return what a call in a task of its own ends with, an error included."""
    (outcome,) = await asyncio.gather(asyncio.ensure_future(awaitable), return_exceptions=True)
    return outcome


# Results


@pytest.mark.parametrize("result", [42, None, "text", []])
async def test_a_pool_refuses_what_cannot_be_awaited(result: object) -> None:
    """The function has been called, once; the resource is not to blame."""
    pool = pool_of_two()
    calls: list[str | None] = []

    def work(resource: Resource[int]) -> Any:
        calls.append(resource.id)
        return result

    outcome = await outcome_of(pool.run(work))

    assert isinstance(outcome, TypeError)
    assert f"work returned {type(result).__name__}" in str(outcome)
    assert calls == ["bad"]
    assert counts(pool) == {"failures": 1}
    assert pool.snapshot()["resources"]["bad"]["standing"] == "ready"


async def test_a_policy_runs_a_plain_function_in_a_thread() -> None:
    """There a result that cannot be awaited is the result."""
    pool = pool_of_two()

    def work(resource: Resource[int]) -> int:
        return resource.value + 41

    assert await Policy("plain").rotating(pool).call(work) == 42
    assert counts(pool) == {"successes": 1}


async def test_a_pool_takes_functions_only() -> None:
    """A coroutine that was made already could be run once; it is closed, and refused at once."""
    pool = pool_of_two()
    made = asyncio.sleep(1)

    with pytest.raises(TypeError, match=r"takes a function and its arguments; got coroutine"):
        await pool.run(made)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"takes a function and its arguments; got int"):
        await pool.run(42)  # type: ignore[arg-type]

    assert pool.stats().uses == 0


async def test_an_async_generator_is_no_operation_of_a_pool() -> None:
    """It makes an iterator, which one await cannot hold."""
    pool = pool_of_two()

    async def work(_resource: object) -> AsyncIterator[int]:
        yield 1

    outcome = await outcome_of(pool.run(work))  # type: ignore[arg-type]

    assert isinstance(outcome, TypeError)
    assert counts(pool) == {"failures": 1}


# What is raised before the first await


@each_way
@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("failure", [ValueError, TypeError, KeyError])
async def test_an_error_before_the_first_await_is_the_callers(
    how: str, is_async: bool, failure: type[Exception]
) -> None:
    """The same object, after one call; nothing rests."""
    pool = pool_of_two()
    error = failure("own")
    calls: list[str | None] = []

    def at_once(resource: Resource[int]) -> Any:
        calls.append(resource.id)
        raise error

    async def in_coroutine(resource: Resource[int]) -> Any:
        return at_once(resource)

    outcome = await outcome_of(RUNS[how](pool)(in_coroutine if is_async else at_once))

    assert outcome is error
    assert calls == ["bad"]
    assert counts(pool) == {"failures": 1}
    assert pool.health().ready == 2


@each_way
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_signal_before_the_first_await_moves_the_resource(how: str, is_async: bool) -> None:
    """No use has run on the second one before."""
    pool = pool_of_two()
    visited: list[str | None] = []

    def at_once(resource: Resource[int]) -> Any:
        visited.append(resource.id)
        if resource.id == "bad":
            raise DisableResource("revoked")
        return asyncio.sleep(0, "served")

    async def in_coroutine(resource: Resource[int]) -> Any:
        return await at_once(resource)

    if how == "policy":
        # Nothing there would call again: the signal is the caller's.
        outcome = await outcome_of(RUNS[how](pool)(in_coroutine if is_async else at_once))
        assert isinstance(outcome, DisableResource)
        assert pool.snapshot()["resources"]["bad"]["disabled"] == "revoked"
        return
    result = await RUNS[how](pool)(in_coroutine if is_async else at_once)

    assert (result, now()) == ("served", 0)
    assert visited == ["bad", "good"]


# What is no Exception


@each_way
@pytest.mark.parametrize("failure", [asyncio.CancelledError, StopEverythingError, GeneratorExit])
@pytest.mark.parametrize("seconds", [0, 3])
async def test_what_is_no_exception_ends_its_own_call_alone(
    how: str, failure: type[BaseException], seconds: float
) -> None:
    """It is not retried; the resource is neither healed nor blamed, and others go on."""
    pool = pool_of_two()
    work = scripted(takes(seconds, failure))
    beside = asyncio.ensure_future(RUNS[how](pool)(scripted(takes(5, "beside"))))

    outcome = await outcome_of(RUNS[how](pool)(work))

    assert isinstance(outcome, failure)
    assert len(work.calls) == 1
    assert await beside == "beside"
    assert pool.health().ready == 2
    assert sum(counts(pool).values()) == 2


# What becomes of a cancel


def displacing(pool: Pool[int], run: Run) -> asyncio.Task[Any]:
    """Begin a use of the first resource that loses it in second 1 for all who began later."""
    call = run(scripted(takes(1, CooldownResource(60)), then="older"))
    return asyncio.ensure_future(call)  # type: ignore[return-value]


def swallowing(then: Callable[[], Any]) -> tuple[Callable[..., Awaitable[Any]], list[str | None]]:
    """Return an operation that takes its first cancel and goes on, and where it has run."""
    visited: list[str | None] = []

    async def work(resource: Resource[int]) -> Any:
        visited.append(resource.id)
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(10)
        return then()

    return work, visited


@each_way
async def test_a_displaced_attempt_that_swallows_the_cancel_has_its_result(how: str) -> None:
    """It said that it can do without its resource; no cancel is left for its caller to meet."""
    pool = pool_of_two()
    run = RUNS[how](pool)
    older = displacing(pool, run)
    await asyncio.sleep(0)
    work, visited = swallowing(lambda: "done all the same")

    async def caller() -> tuple[Any, int]:
        result = await run(work)
        task = asyncio.current_task()
        assert task is not None
        await asyncio.sleep(1)
        return result, task.cancelling()

    assert await asyncio.create_task(caller()) == ("done all the same", 0)
    assert visited == ["bad"]
    await outcome_of(older)
    assert "displaced" not in counts(pool)


@each_way
async def test_a_displaced_attempt_that_fails_in_another_way_has_failed(how: str) -> None:
    """The error is the operation's own, and reaches the caller."""
    pool = pool_of_two()
    run = RUNS[how](pool)
    older = displacing(pool, run)
    await asyncio.sleep(0)
    error = ValueError("in the middle of cleaning up")

    def fail() -> Any:
        raise error

    work, visited = swallowing(fail)

    async def caller() -> tuple[Any, int]:
        with pytest.raises(ValueError, match="cleaning up") as caught:
            await run(work)
        task = asyncio.current_task()
        assert task is not None
        return caught.value, task.cancelling()

    assert await asyncio.create_task(caller()) == (error, 0)
    assert visited == ["bad"]
    await outcome_of(older)


@each_way
async def test_the_callers_cancel_that_an_operation_swallows_is_the_operations(how: str) -> None:
    """As without a pool: the result is the result, and nothing is run again."""
    pool = pool_of_two()
    work, visited = swallowing(lambda: "would not stop")
    call = asyncio.ensure_future(RUNS[how](pool)(work))
    await asyncio.sleep(1)

    call.cancel()

    assert await call == "would not stop"
    assert visited == ["bad"]
    assert counts(pool) == {"successes": 1}


@each_way
@pytest.mark.parametrize("seconds", [0, 7])
async def test_an_attempt_that_takes_time_to_end_keeps_its_resource_until_then(
    how: str, seconds: float
) -> None:
    """Cancelled by its caller: its cleaning up still uses the resource."""
    pool = Pool([Resource(1, "only", max_in_flight=1)])
    ended: list[float] = []

    async def work(_resource: object) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(seconds)
            ended.append(now())

    call = asyncio.ensure_future(RUNS[how](pool)(work))
    await asyncio.sleep(1)
    call.cancel()
    next_one = await pool.using(max_wait=50).run(scripted(then="served"))
    outcome = await outcome_of(call)

    assert isinstance(outcome, asyncio.CancelledError)
    assert (next_one, now(), ended) == ("served", 1 + seconds, [1 + seconds])
    assert counts(pool) == {"successes": 1, "cancelled": 1}


@each_way
async def test_a_displaced_attempt_that_takes_time_to_end_begins_again_after_that(how: str) -> None:
    """There are never two of it at once."""
    pool = pool_of_two()
    run = RUNS[how](pool)
    older = displacing(pool, run)
    await asyncio.sleep(0)
    visited: list[tuple[str | None, float]] = []

    async def work(resource: Resource[int]) -> str:
        visited.append((resource.id, now()))
        if resource.id == "good":
            return "elsewhere"
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(7)
        return "never"

    assert await run(work) == "elsewhere"
    assert visited == [("bad", 0), ("good", 8)]
    await outcome_of(older)


@each_way
async def test_a_caller_who_cancels_while_a_displaced_attempt_ends_has_its_cancel(how: str) -> None:
    """The pool's came seconds before; nothing begins again."""
    pool = pool_of_two()
    run = RUNS[how](pool)
    older = displacing(pool, run)
    await asyncio.sleep(0)
    visited: list[str | None] = []

    async def work(resource: Resource[int]) -> None:
        visited.append(resource.id)
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(7)

    call = asyncio.ensure_future(run(work))
    await asyncio.sleep(3)
    call.cancel()

    assert isinstance(await outcome_of(call), asyncio.CancelledError)
    assert visited == ["bad"]
    await outcome_of(older)
    assert pool.stats().in_flight == 0


@each_way
async def test_shielded_work_goes_on_without_its_resource(how: str) -> None:
    """The attempt has ended; what it left behind is the operation's own affair."""
    pool = Pool([Resource(1, "only", max_in_flight=1)])
    finished: list[str] = []

    async def left_behind() -> None:
        await asyncio.sleep(20)
        finished.append("left behind")

    async def work(_resource: object) -> None:
        await asyncio.shield(asyncio.ensure_future(left_behind()))

    call = asyncio.ensure_future(RUNS[how](pool)(work))
    await asyncio.sleep(1)
    call.cancel()
    await asyncio.wait([call])
    next_one = await pool.run(scripted("served"))
    await asyncio.sleep(30)

    assert (next_one, finished) == ("served", ["left behind"])


@each_way
async def test_an_operation_that_never_gives_in_holds_its_own_resource_only(how: str) -> None:
    """It swallows every cancel; others are served elsewhere until it ends."""
    pool = Pool([Resource(1, "a", max_in_flight=1), Resource(2, "b", max_in_flight=1)])
    until = 50

    async def work(_resource: object) -> str:
        while now() < until:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(until - now())
        return "in its own time"

    call = asyncio.ensure_future(RUNS[how](pool)(work))
    for _ in range(5):
        await asyncio.sleep(1)
        call.cancel()
        assert await pool.run(scripted("served")) == "served"

    assert await call == "in its own time"
    assert pool.stats().in_flight == 0


async def test_a_transient_wish_after_a_swallowed_cancel_is_one_like_any_other() -> None:
    """The attempt asked to be made again, and pays for it."""
    pool = Pool({"bad": 1, "good": 2}, pick="primary_backup", retry_delay=0, attempts=2)
    older = displacing(pool, pool.run)
    await asyncio.sleep(0)

    def again() -> Any:
        raise TryAgain

    work, visited = swallowing(again)

    outcome = await outcome_of(pool.run(work))

    assert isinstance(outcome, NoResourceError)
    assert (outcome.case, visited) == ("attempts_spent", ["bad", "good"])
    await outcome_of(older)
