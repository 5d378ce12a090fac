"""A fallback over a pool: it answers when no resource can, and never for one that was lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock import CooldownResource, NoResourceError, Policy, Pool
from penstock.testing import scripted, takes

pytestmark = pytest.mark.virtual_time


def _keys(count: int = 2, **options: Any) -> Pool[str]:
    return Pool(dict.fromkeys("abc"[:count], "value"), pick="primary_backup", **options)


async def test_it_answers_while_no_resource_is_ready():
    """Given a pool that rests, then nobody waits and the substitute is the answer."""
    policy = Policy().with_fallback(value="cached").rotating(_keys(1, cooldown=30))
    operation = scripted(CooldownResource, then="fresh")

    results = [await policy.call(operation) for _ in range(3)]
    await asyncio.sleep(30)
    results.append(await policy.call(operation))

    assert results == ["cached", "cached", "cached", "fresh"]
    assert operation.times == [0, 30]


async def test_it_can_be_kept_for_an_exhausted_pool():
    """Given ``fallback_on``, then the failure that emptied the pool is not answered."""
    policy = Policy().with_fallback(value="cached", fallback_on=NoResourceError)
    rotating = policy.rotating(_keys(1))

    with pytest.raises(CooldownResource):
        await rotating.call(scripted(CooldownResource))

    assert await rotating.call(scripted("never")) == "cached"


async def test_it_answers_once_another_resource_has_failed_too():
    """Given retry inside, then each key is asked before the substitute is taken."""
    policy = Policy().with_fallback(value="cached").with_retry(5, wait=9)
    operation = scripted(then=CooldownResource)

    result = await policy.rotating(_keys(3, cooldown=500)).call(operation)

    assert result == "cached"
    assert [call.args[0].id for call in operation.calls] == ["a", "b", "c"]
    assert operation.times == [0, 0, 0]


@pytest.mark.parametrize("place", ["outside", "inside"])
async def test_a_displaced_attempt_is_run_again_and_not_answered(place: str):
    """Given a fallback outside the rate limit or inside it, then the victim has a real answer."""
    pool = _keys()
    policy = (
        Policy().with_fallback(value="cached").with_rate(9)
        if place == "outside"
        else Policy().with_rate(9).with_fallback(value="cached")
    )
    victim = scripted(takes(5, "never"), takes(1, "moved"))

    results = await asyncio.gather(
        policy.rotating(pool).call(scripted(takes(1, CooldownResource))),
        policy.rotating(pool).call(victim),
    )

    assert results == ["cached", "moved"]
    assert victim.times == [0, 1]


async def test_another_policy_answers_with_its_own_pool():
    """Given a second provider, then it is handed the first one's calls while that one rests."""
    second = Policy("second").rotating({"x": "X"})
    first = Policy("first").with_fallback(policy=second).rotating(_keys(1, cooldown=30))
    operation = scripted(CooldownResource, then=lambda key: key.id)

    results = [await first.call(operation) for _ in range(2)]

    assert results == ["x", "x"]
    assert [call.args[0].id for call in operation.calls] == ["a", "x", "x"]
