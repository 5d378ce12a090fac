from __future__ import annotations

import asyncio

import pytest

from penstock import Policy
from penstock.testing import ScriptedCall, ScriptOver, scripted, scripted_sync, takes

pytestmark = pytest.mark.virtual_time


async def test_outcomes_are_played_in_order() -> None:
    """A value is returned, an exception raised, a callable called with the arguments."""
    search = scripted("first", ConnectionError, ValueError("no"), 503, str.upper)

    assert await search("a") == "first"
    with pytest.raises(ConnectionError):
        await search("b")
    with pytest.raises(ValueError, match=r"^no$"):
        await search("c")
    assert await search("d") == 503
    assert await search("e") == "E"
    assert search.left == 0


async def test_a_callable_may_be_async() -> None:
    """What it returns is awaited if it can be."""

    async def slow(query: str) -> str:
        await asyncio.sleep(1)
        return query * 2

    search = scripted(slow)

    assert await search("ab") == "abab"


async def test_an_outcome_can_take_time() -> None:
    """The call ends after the seconds it takes, with whatever outcome follows."""
    search = scripted(
        takes(5, "late"), takes(2, ConnectionError), takes(1, takes(1, len)), takes(3)
    )
    loop = asyncio.get_running_loop()

    assert (await search(), loop.time()) == ("late", 5)
    with pytest.raises(ConnectionError):
        await search()
    assert loop.time() == 7
    assert (await search("abc"), loop.time()) == (3, 9)
    assert (await search(), loop.time()) == (None, 12)


async def test_every_call_is_recorded() -> None:
    """Number from 1, time and arguments of each call, failed ones included."""
    search = scripted(takes(2, "a"), ConnectionError)

    await search("x", limit=1)
    with pytest.raises(ConnectionError):
        await search()

    assert search.calls == [
        ScriptedCall(number=1, at=0.0, args=("x",), kwargs={"limit": 1}),
        ScriptedCall(number=2, at=2.0, args=(), kwargs={}),
    ]
    assert search.times == [0.0, 2.0]


async def test_a_call_after_the_end_of_the_script_is_an_error() -> None:
    """The message names the operation, the call and what to do."""
    search = scripted("only", name="search")
    await search()

    with pytest.raises(ScriptOver) as over:
        await search()

    assert str(over.value) == (
        "scripted operation 'search': call 2 came, but its script ends after 1; "
        "add outcomes, or then=... for all further calls"
    )


async def test_no_retry_swallows_the_end_of_the_script() -> None:
    """The test learns of the call that was one too many, whatever the policy does."""
    policy = Policy("t").with_fallback(value="hidden").with_retry(attempts=5, wait=0)
    search = scripted(ConnectionError)

    with pytest.raises(ScriptOver):
        await policy.call(search)

    assert len(search.calls) == 2


async def test_then_is_the_outcome_of_all_further_calls() -> None:
    """Also None can be."""
    search = scripted("first", then=None)

    assert [await search() for _ in range(3)] == ["first", None, None]


async def test_calls_under_way_are_counted() -> None:
    """The most at once is what a test of a limit wants to know."""
    search = scripted(then=takes(1))

    await asyncio.gather(*(search() for _ in range(3)))
    await search()

    assert search.most_in_flight == 3
    assert search.in_flight == 0


async def test_a_cancelled_call_is_no_longer_under_way() -> None:
    """Cancelling a scripted call ends it like any other."""
    search = scripted(takes(10))
    task = asyncio.create_task(search())
    await asyncio.sleep(1)

    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert search.in_flight == 0


async def test_a_policy_shows_the_name_of_a_script() -> None:
    """Events and messages name the operation as the test did."""
    policy = Policy("t").with_retry(attempts=2, wait=0)
    search = scripted(ConnectionError, "ok", name="search")

    result = await policy.call(search)

    assert result == "ok"
    assert search.__qualname__ == "search"
    assert repr(search) == "<Scripted 'search': 2 calls, 0 left>"


def test_the_sync_flavour_plays_the_same_script() -> None:
    """A plain function for whatever takes plain functions."""
    search = scripted_sync("first", ConnectionError, str.upper, then=7, name="search")

    assert search() == "first"
    with pytest.raises(ConnectionError):
        search()
    assert search("x") == "X"
    assert search() == 7
    assert len(search.calls) == 4


def test_the_sync_flavour_takes_no_time() -> None:
    """A plain function cannot wait in virtual time, and says so when it is built."""
    with pytest.raises(TypeError, match=r"use scripted\(...\)"):
        scripted_sync("a", takes(1, "b"))
    with pytest.raises(TypeError, match=r"use scripted\(...\)"):
        scripted_sync(then=takes(1))


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "1", True])
def test_a_time_that_cannot_pass_is_refused(seconds: float) -> None:
    """Built wrong, a script says so at once and not in the middle of a test."""
    with pytest.raises(ValueError, match="seconds"):
        takes(seconds)
