from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from penstock import CallTimeoutError, CooldownResource, NoResourceError, Policy, Pool, Resource
from penstock.errors import DisplacedError
from penstock.testing import scripted

SLOW = 0.3


@pytest.mark.real_time
@pytest.mark.integration
async def test_a_use_whose_thread_goes_on_is_counted_once():
    """Its failure is known when the caller leaves; successes never fall below nothing."""
    pool = Pool({"a": 1})
    policy = Policy().with_timeout(0.05).rotating(pool)

    with pytest.raises(CallTimeoutError):
        await policy.call(lambda key: time.sleep(SLOW))
    during = pool.stats()
    await asyncio.sleep(2 * SLOW)
    after = pool.stats()

    assert (during.uses, during.successes, during.failures, during.in_flight) == (1, 0, 1, 1)
    assert (after.uses, after.successes, after.failures, after.in_flight) == (1, 0, 1, 0)


async def _displaced(key: Resource[Any]) -> None:
    raise DisplacedError("lost by a policy further in")


@pytest.mark.virtual_time
@pytest.mark.parametrize("retry", [True, False], ids=["retry", "alone"])
async def test_what_another_policy_lost_is_an_ordinary_failure(retry: bool):
    """It is neither run again without end nor held against the resource out here."""
    pool = Pool({"a": 1, "b": 2})
    policy = Policy().with_retry(2, wait=1) if retry else Policy()

    with pytest.raises(DisplacedError):
        await asyncio.wait_for(policy.rotating(pool).call(_displaced), 100)

    assert pool.health().ready == 2
    with pytest.raises(NoResourceError) as refused:
        await pool.run(_displaced)
    assert refused.value.case == "attempts_spent"


@pytest.mark.virtual_time
async def test_a_displaced_call_that_finds_nobody_says_what_it_lost():
    """Also where no retry stands in the policy."""
    policy = Policy().rotating({"a": 1}, cooldown=30)
    operation = scripted(then="never")

    async def fails(key: Resource[int]) -> None:
        await asyncio.sleep(1)
        raise CooldownResource

    async def waits(key: Resource[int]) -> Any:
        await asyncio.sleep(5)
        return await operation()

    older = asyncio.create_task(policy.call(fails))
    await asyncio.sleep(0.5)
    younger = asyncio.create_task(policy.call(waits))
    outcomes = await asyncio.gather(older, younger, return_exceptions=True)

    refused = outcomes[1]
    assert isinstance(refused, NoResourceError)
    assert refused.case == "all_cooling"
    assert isinstance(refused.__cause__, DisplacedError)
