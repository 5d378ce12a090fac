from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import pytest

from penstock.errors import ConfigError, PolicyError
from penstock.matching import Matcher, Matching, is_async_callable
from penstock.options import Options
from penstock.verdict import Verdict, VerdictKind

UNKNOWN = Verdict(VerdictKind.UNKNOWN)
TIMEOUT = Verdict(VerdictKind.TIMEOUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOptions(Options):
    """Options of a stage that is not there."""

    stage: ClassVar[str] = "sample"

    fire_on: Annotated[object, Matching()] | None = None
    trip_on: Annotated[object, Matching(waits=False)] | None = None


class AsyncPredicate:
    """An object that is called as a coroutine function is."""

    async def __call__(self, failure: Exception) -> bool:
        """Match everything."""
        return True


async def is_odd(failure: Exception, word: str = "odd") -> bool:
    """Match failures that say ``word``, after a step of the loop."""
    await asyncio.sleep(0)
    return word in str(failure)


@pytest.mark.parametrize(
    ("which", "failure", "verdict", "matches"),
    [
        (OSError, ConnectionError(), UNKNOWN, True),
        (OSError, KeyError(), UNKNOWN, False),
        ((OSError, KeyError), KeyError(), UNKNOWN, True),
        ("timeout", OSError(), TIMEOUT, True),
        ("timeout", OSError(), UNKNOWN, False),
        (VerdictKind.TIMEOUT, OSError(), TIMEOUT, True),
        (lambda failure: "busy" in str(failure), OSError("busy"), UNKNOWN, True),
        (lambda failure: "busy" in str(failure), OSError("gone"), UNKNOWN, False),
        ([KeyError, "timeout", lambda _: False], OSError(), TIMEOUT, True),
        ({KeyError, VerdictKind.AUTH}, OSError(), TIMEOUT, False),
        (frozenset({KeyError}), KeyError(), TIMEOUT, True),
        ([(KeyError, (OSError,)), "auth"], OSError(), UNKNOWN, True),
    ],
)
async def test_any_part_that_fits_is_a_match(which, failure, verdict, matches):
    """Types, words, kinds, predicates and nested mixes answer alike, awaited or not."""
    matcher = Matcher.of(which)

    assert matcher(failure, verdict) is matches
    assert await matcher.ask(failure, verdict) is matches


@pytest.mark.parametrize(
    "which",
    [
        3,
        (),
        [[]],
        "sometimes",
        "ok",
        "cancelled",
        VerdictKind.OK,
        VerdictKind.CANCELLED,
        int,
        BaseException,
        asyncio.CancelledError,
        (OSError, 3),
    ],
)
def test_what_can_never_match_is_refused_when_it_is_built(which):
    """The error names the field, the value and what is allowed."""
    with pytest.raises(ConfigError, match=r"sample: 'fire_on' must be an Exception type") as caught:
        SampleOptions(fire_on=which)

    assert repr(which) in str(caught.value)
    assert "timeout" in str(caught.value)


async def test_async_predicates_are_awaited_by_ask():
    """`ask` awaits coroutine functions, partials of them and async callables."""
    matcher = Matcher.of([partial(is_odd, word="strange"), is_odd])

    assert matcher.is_async
    assert await matcher.ask(OSError("odd"), UNKNOWN)
    assert not await matcher.ask(OSError("even"), UNKNOWN)
    assert await Matcher.of(AsyncPredicate()).ask(OSError(), UNKNOWN)


async def test_a_plain_function_that_returns_a_coroutine_is_awaited_too():
    """What cannot be seen when it is built is still handled when it answers."""
    matcher = Matcher.of(lambda failure: is_odd(failure, "odd"))

    assert not matcher.is_async
    assert await matcher.ask(OSError("odd"), UNKNOWN)
    with pytest.raises(PolicyError, match="make it a plain function"):
        matcher(OSError("odd"), UNKNOWN)


async def test_a_future_as_an_answer_is_refused_where_nothing_can_be_awaited():
    """An awaitable is always true; taking it for an answer would match everything."""
    future = asyncio.get_running_loop().create_future()

    with pytest.raises(PolicyError, match="awaitable"):
        Matcher.of(lambda _: future)(OSError(), UNKNOWN)


def test_a_stage_that_cannot_wait_refuses_async_predicates():
    """`Matching(waits=False)` says so when the options are built."""
    with pytest.raises(ConfigError, match="predicate that is not async"):
        SampleOptions(trip_on=is_odd)

    assert SampleOptions(trip_on=[OSError, "timeout"]).trip_on == [OSError, "timeout"]


def test_predicates_are_asked_last():
    """A predicate is the dear part: types and kinds answer first."""
    matcher = Matcher.of([lambda _: pytest.fail("asked"), OSError])

    assert matcher(OSError(), UNKNOWN)


def test_what_is_not_callable_is_not_an_async_callable():
    """The helper answers for any object."""
    assert not is_async_callable(3)
    assert is_async_callable(AsyncPredicate())
    assert is_async_callable(partial(partial(is_odd), word="x"))
