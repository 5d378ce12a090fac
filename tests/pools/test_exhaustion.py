"""NoResourceError says which case it is, through a pool alone and through a policy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from penstock import (
    ConfigError,
    CooldownResource,
    DisableResource,
    NoResourceError,
    Policy,
    Pool,
    Resource,
    TryAgain,
)
from penstock.errors import DisplacedError
from penstock.events import CallRejected
from penstock.testing import EventLog, scripted, takes

pytestmark = pytest.mark.virtual_time

Run = Callable[..., Awaitable[Any]]

LIMITED = CooldownResource(60, reason="429")
REVOKED = DisableResource("revoked")


def now() -> float:
    """Return the second of the running loop."""
    return asyncio.get_running_loop().time()


def alone(pool: Pool[Any], max_wait: float | None = None) -> Run:
    """Call through the pool."""
    return pool.using(max_wait=max_wait).run


def in_policy(pool: Pool[Any], max_wait: float | None = None) -> Run:
    """Call through a policy that makes one attempt."""
    return Policy("search").rotating(pool, max_wait=max_wait).call


def with_retry(pool: Pool[Any], max_wait: float | None = None) -> Run:
    """Call through a policy that would make three."""
    policy = Policy("search").with_timeout(1000).with_retry(attempts=3, wait=1)
    return policy.rotating(pool, max_wait=max_wait).call


each_way = pytest.mark.parametrize("how", [alone, in_policy, with_retry])
without_retry = pytest.mark.parametrize("how", [alone, in_policy])


def keys(*names: str, cap: int | None = None) -> list[Resource[int]]:
    """Return resources of these ids."""
    return [Resource(n, name, max_in_flight=cap) for n, name in enumerate(names)]


async def fail_each(pool: Pool[Any], *failures: object) -> None:
    """Let each resource in turn fail with one of these."""
    for failure in failures:
        with pytest.raises(NoResourceError):
            await pool.using(attempts=1).run(scripted(failure))


async def refusal(call: Awaitable[Any]) -> NoResourceError:
    """Return the error of a call that nobody serves."""
    with pytest.raises(NoResourceError) as caught:
        await call
    return caught.value


# Nobody can serve when the call comes


@each_way
async def test_all_disabled(how: Callable[..., Run]) -> None:
    """Nobody knows when they are back; the call fails at once, however long it might wait."""
    pool = Pool(keys("a", "b"))
    await fail_each(pool, REVOKED, REVOKED)
    work = scripted(then="never")

    error = await refusal(how(pool, 500)(work))

    assert (error.case, error.retry_after, now()) == ("all_disabled", None, 0)
    assert "pool 'pool': no resource is ready: 2 disabled" in str(error)
    assert error.__cause__ is None
    assert work.calls == []


@without_retry
async def test_all_cooling(how: Callable[..., Run]) -> None:
    """It says when the first one is back."""
    pool = Pool(keys("a", "b"))
    await fail_each(pool, CooldownResource(60), CooldownResource(30))

    error = await refusal(how(pool)(scripted(then="never")))

    assert (error.case, error.retry_after, now()) == ("all_cooling", 30, 0)
    assert "2 cooling down (the first is back in 30 s)" in str(error)


@without_retry
@pytest.mark.parametrize("max_wait", [None, 0])
async def test_all_full(how: Callable[..., Run], max_wait: float | None) -> None:
    """Any of them may come free any moment: nobody knows when."""
    pool = Pool(keys("a", "b", cap=1))
    holders = [asyncio.ensure_future(pool.run(scripted(takes(5)))) for _ in range(2)]
    await asyncio.sleep(0)

    error = await refusal(how(pool, max_wait)(scripted(then="never")))

    assert (error.case, error.retry_after, now()) == ("all_full", None, 0)
    assert "2 in use" in str(error)
    await asyncio.gather(*holders)


@without_retry
async def test_a_mix_says_how_many_of_each(how: Callable[..., Run]) -> None:
    """One that is in use may come free: it decides the case."""
    pool = Pool(keys("a", "b", "c", cap=1))
    await fail_each(pool, REVOKED, LIMITED)
    holder = asyncio.ensure_future(pool.run(scripted(takes(5))))
    await asyncio.sleep(0)

    error = await refusal(how(pool)(scripted(then="never")))

    assert error.case == "all_full"
    assert "1 cooling down (the first is back in 60 s), 1 in use, 1 disabled" in str(error)
    await holder


@each_way
async def test_an_empty_pool(how: Callable[..., Run]) -> None:
    """The last resource was removed."""
    pool = Pool(keys("a"))
    pool.remove("a")

    error = await refusal(how(pool, 500)(scripted(then="never")))

    assert (error.case, error.retry_after, now()) == ("empty", None, 0)
    assert "it has no resources" in str(error)


@without_retry
async def test_a_wait_that_is_too_short(how: Callable[..., Run]) -> None:
    """It is not begun, and says when waiting would help."""
    pool = Pool(keys("a"))
    await fail_each(pool, LIMITED)

    error = await refusal(how(pool, 59)(scripted(then="never")))

    assert (error.case, error.retry_after, now()) == ("deadline", 60, 0)
    assert "in the time that is left" in str(error)


@without_retry
@pytest.mark.parametrize("max_wait", [None, 0])
async def test_no_wait_at_all_is_no_matter_of_time(
    how: Callable[..., Run], max_wait: float | None
) -> None:
    """Who would not wait is told that all rest."""
    pool = Pool(keys("a"))
    await fail_each(pool, LIMITED)

    error = await refusal(how(pool, max_wait)(scripted(then="never")))

    assert (error.case, error.retry_after) == ("all_cooling", 60)


@without_retry
async def test_a_full_queue(how: Callable[..., Run]) -> None:
    """Whoever comes after the last place is told so at once."""
    pool = Pool(keys("a", cap=1), max_queue=1)
    holder = asyncio.ensure_future(pool.run(scripted(takes(5))))
    await asyncio.sleep(0)
    waiter = asyncio.ensure_future(how(pool, 50)(scripted("served")))
    await asyncio.sleep(0)

    error = await refusal(how(pool, 50)(scripted(then="never")))

    assert (error.case, now()) == ("queue_full", 0)
    assert "the queue is full" in str(error)
    assert await waiter == "served"
    await holder


# Nobody can serve any more while the call waits


@each_way
@pytest.mark.parametrize("end", ["disable", "remove"])
async def test_hope_ends_while_a_call_waits(how: Callable[..., Run], end: str) -> None:
    """It is told in that moment, and by the right name."""
    pool = Pool(keys("a", cap=1))
    holder = asyncio.ensure_future(pool.run(scripted(takes(5))))
    await asyncio.sleep(0)
    call = asyncio.ensure_future(how(pool, 50)(scripted(then="never")))
    await asyncio.sleep(1)

    getattr(pool, end)("a")
    error = await refusal(call)

    expected = {"disable": "all_disabled", "remove": "empty"}[end]
    assert (error.case, now()) == (expected, 1)
    await holder


@without_retry
async def test_time_runs_out_while_a_call_waits(how: Callable[..., Run]) -> None:
    """The holder takes longer than the call would wait."""
    pool = Pool(keys("a", cap=1))
    holder = asyncio.ensure_future(pool.run(scripted(takes(50))))
    await asyncio.sleep(0)

    error = await refusal(how(pool, 10)(scripted(then="never")))

    assert (error.case, now()) == ("deadline", 10)
    await holder


# The call itself has used them up


async def test_a_pool_alone_names_the_last_failure_as_the_cause() -> None:
    """Whichever way the resources were lost."""
    for failures, case in (
        ((REVOKED, REVOKED), "all_disabled"),
        ((REVOKED, LIMITED), "all_cooling"),
        ((LIMITED, REVOKED), "all_cooling"),
    ):
        pool = Pool(keys("a", "b"))

        error = await refusal(pool.run(scripted(*failures)))

        assert error.case == case
        assert error.__cause__ is failures[-1]


async def test_spent_attempts_name_the_last_failure_as_the_cause() -> None:
    """Others would still be ready."""
    pool = Pool(keys("a", "b", "c"), attempts=2)

    error = await refusal(pool.run(scripted(REVOKED, LIMITED)))

    assert (error.case, error.retry_after) == ("attempts_spent", None)
    assert error.__cause__ is LIMITED
    assert "all 2 attempts are spent" in str(error)
    assert pool.health().ready == 1


async def test_a_deadline_that_passes_between_attempts_names_the_last_failure() -> None:
    """The attempt took longer than there was time to begin another."""
    pool = Pool(keys("a", "b"))
    last = CooldownResource(60)

    error = await refusal(pool.using(start_within=3).run(scripted(takes(5, last))))

    assert (error.case, now()) == ("deadline", 5)
    assert error.__cause__ is last


async def test_a_policy_with_retry_raises_the_last_failure_itself() -> None:
    """A retry never wraps: with nobody left to ask it ends with what the operation said."""
    for failures in ((REVOKED, REVOKED), (LIMITED, REVOKED)):
        pool = Pool(keys("a", "b"))
        policy = Policy("search").with_timeout(20).with_retry(attempts=5).rotating(pool)

        with pytest.raises(type(failures[-1])) as caught:
            await policy.call(scripted(*failures))

        assert caught.value is failures[-1]
        assert caught.value.__cause__ is None
        assert now() == 0


async def test_a_policy_without_retry_raises_what_the_operation_said() -> None:
    """One attempt was made, and it is the failure of the next call that nobody serves."""
    pool = Pool(keys("a"))
    policy = Policy("search").rotating(pool)

    with pytest.raises(DisableResource) as caught:
        await policy.call(scripted(REVOKED))
    error = await refusal(policy.call(scripted(then="never")))

    assert caught.value is REVOKED
    assert error.case == "all_disabled"


async def test_a_retry_that_ends_at_a_full_pool_names_the_operations_failure() -> None:
    """The rejection is the last failure; what led there is its cause."""
    pool = Pool([*keys("a"), Resource(9, "b", max_in_flight=1)])
    holders = [asyncio.ensure_future(pool.run(scripted(takes(500)))) for _ in range(2)]
    await asyncio.sleep(0)
    policy = Policy("search").with_retry(attempts=2, wait=0).rotating(pool)

    error = await refusal(policy.call(scripted(CooldownResource(400))))

    assert error.case == "all_full"
    assert isinstance(error.__cause__, CooldownResource)
    await asyncio.gather(*holders)


@without_retry
async def test_a_displaced_call_that_nobody_else_can_serve(how: Callable[..., Run]) -> None:
    """It never failed itself; through a pool alone the cause says to whom it lost its resource."""
    pool = Pool(keys("a"))
    run = how(pool)
    older = asyncio.ensure_future(run(scripted(takes(1, LIMITED))))
    await asyncio.sleep(0)
    work = scripted(takes(100))

    error = await refusal(run(work))
    await asyncio.wait([older])

    assert (error.case, error.retry_after) == ("all_cooling", 60)
    assert len(work.calls) == 1
    if how is alone:
        assert isinstance(error.__cause__, DisplacedError)
        assert "lost to an older call's failure (429)" in str(error.__cause__)
    older.exception()


async def test_a_transient_signal_that_uses_up_the_attempts() -> None:
    """The pool is well: the attempts are spent, and the signal is the cause."""
    pool = Pool(keys("a"), attempts=2, retry_delay=0)
    last = TryAgain("still busy")

    error = await refusal(pool.run(scripted(TryAgain("busy"), last)))

    assert (error.case, error.__cause__) == ("attempts_spent", last)


# Beside it


async def test_a_call_that_finds_nobody_within_its_timeout_was_refused() -> None:
    """It did not take too long: a breaker further out has nothing to count."""
    pool = Pool(keys("a", cap=1))
    holder = asyncio.ensure_future(pool.run(scripted(takes(50))))
    await asyncio.sleep(0)

    error = await refusal(Policy("search").with_timeout(10).rotating(pool).call(scripted()))

    assert (error.case, now()) == ("deadline", pytest.approx(10, abs=0.01))
    await holder


async def test_observers_are_told_of_every_refusal() -> None:
    """With the seconds after which it would help to come again."""
    pool = Pool(keys("a"))
    log = EventLog()
    policy = Policy("search", observers=[log]).rotating(pool)
    await fail_each(pool, LIMITED)

    await refusal(policy.call(scripted(then="never")))

    event = log.only(CallRejected)
    assert (event.stage, event.error_type, event.retry_after) == (
        "rotation",
        "NoResourceError",
        60,
    )


async def test_each_refusal_is_an_error_of_its_own() -> None:
    """Callers add notes to what they catch."""
    pool = Pool(keys("a"))
    pool.disable("a")

    errors = [await refusal(pool.run(scripted(then="never"))) for _ in range(2)]

    assert errors[0] is not errors[1]


# What is refused when it is built


@pytest.mark.parametrize("build", [Pool, Policy("search").rotating], ids=["pool", "policy"])
@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([], {}, "pool: 'resources' must not be empty"),
        ({}, {}, "pool: 'resources' must not be empty"),
        (keys("a", "a"), {}, "two resources have the id 'a'"),
        ({"": 1}, {}, "ids must be texts that are not empty; got an empty text"),
        ({"a": Resource(1, "b")}, {}, "resource 'b' is listed under another id: 'a'"),
        ([1], {"cooldown": []}, "'cooldown' must be seconds"),
        ([1], {"cooldown": [30, -1]}, "'cooldown' must be seconds"),
        ([1], {"pick": "fastest"}, "'pick' must be one of"),
        ([1], {"max_wait": -1}, "'max_wait' must be"),
        ([1], {"max_queue": -1}, "'max_queue' must be"),
        ([1], {"min_ready": 0.5}, "'min_ready' must be"),
        ([1], {"max_cooldown": 0}, "'max_cooldown' must be"),
    ],
)
def test_what_means_nothing_is_refused_when_it_is_built(
    build: Callable[..., Any], given: Any, options: dict[str, Any], message: str
) -> None:
    """Through both doors, with the same words."""
    with pytest.raises(ConfigError, match=message):
        build(given, **options)
