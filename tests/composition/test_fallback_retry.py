"""A fallback outside retry: it answers once, when all attempts are spent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock import BudgetExhaustedError, CallTimeoutError, ConfigError, Policy
from penstock.testing import Sweep, cancel_sweep, scripted, takes

pytestmark = pytest.mark.virtual_time


async def test_all_attempts_are_made_before_the_fallback_answers():
    """Given three attempts, then the substitute comes after the third."""
    operation = scripted(then=ConnectionError)
    policy = Policy().with_fallback(value="cached").with_retry(3, wait=1)

    assert await policy.call(operation) == "cached"
    assert operation.times == [0, 1, 2]


async def test_a_retry_that_succeeds_needs_no_fallback():
    """Given a second attempt that succeeds, then nothing is answered for."""
    policy = Policy().with_fallback(value="cached").with_retry(3, wait=1)

    assert await policy.call(scripted(ConnectionError, "fresh")) == "fresh"
    assert policy.snapshot()["stages"][0]["answered"] == 0


async def test_the_fallback_sees_the_last_failure_with_its_note():
    """Given several failures, then the function gets the last, which says how many there were."""
    failures = [ConnectionError("first"), ConnectionError("second")]
    seen: list[Exception] = []
    policy = Policy().with_fallback(seen.append).with_retry(2, wait=1)

    await policy.call(scripted(*failures))

    assert seen == [failures[1]]
    assert seen[0].__notes__ == ["penstock: gave up after 2 attempts in 1.000 s: attempts spent"]


async def test_a_fallback_policy_makes_attempts_of_its_own():
    """Given a second policy with retry, then its attempts count from one again."""
    attempts: list[int] = []

    async def look(call: Any, call_next: Any) -> Any:
        attempts.append(call.attempt)
        return await call_next(call)

    second = Policy("second").with_retry(2, wait=0).with_stage(look)
    policy = Policy().with_fallback(policy=second).with_retry(2, wait=0).with_stage(look)

    result = await policy.call(scripted(OSError, OSError, OSError, "done"))

    assert result == "done"
    assert attempts == [1, 2, 1, 2]


async def test_the_timeout_of_all_attempts_is_answered_too():
    """Given a total timeout inside the fallback, then the caller never sees it."""
    policy = Policy().with_fallback(value="cached").with_timeout(5).with_retry(9, wait=2)

    assert await policy.call(scripted(then=takes(2, OSError()))) == "cached"
    assert asyncio.get_running_loop().time() <= 5


async def test_a_timeout_outside_bounds_the_fallback_as_well():
    """Given a slow substitute, then the total holds over both."""
    slow = scripted(takes(60))
    policy = Policy().with_timeout(5).with_fallback(slow).with_retry(2, wait=1)

    with pytest.raises(CallTimeoutError):
        await policy.call(scripted(then=OSError))

    assert slow.times == [1]
    assert asyncio.get_running_loop().time() == 5


def test_inside_retry_a_fallback_for_everything_is_refused():
    """Retry could never fire; the error says where it belongs."""
    with pytest.raises(ConfigError, match="retry can never fire; move it outside"):
        Policy().with_retry(3).with_fallback(value=None)


async def test_inside_retry_a_fallback_for_some_failures_leaves_the_others_to_it():
    """Given ``fallback_on``, then both have their own part."""
    policy = Policy().with_retry(2, wait=0).with_fallback(value="none", fallback_on=KeyError)

    assert await policy.call(scripted(OSError, KeyError("k"))) == "none"


async def test_a_spent_budget_is_answered_like_any_failure():
    """Given no budget left, then the last failure is what is answered for."""
    seen: list[Exception] = []
    policy = (
        Policy()
        .with_fallback(seen.append)
        .with_budget(ratio=0, min_per_second=0.1)
        .with_retry(5, wait=0)
    )
    operation = scripted(then=ConnectionError)

    await policy.call(operation)

    assert len(operation.calls) == 2
    assert isinstance(seen[0], ConnectionError)
    assert not isinstance(seen[0], BudgetExhaustedError)


def test_a_cancel_at_any_point_balances_the_books():
    """Cancel sweep over attempts, back-off and substitute: the budget is paid for what was made."""

    async def scenario(sweep: Sweep) -> tuple[Policy, Any]:
        policy = (
            Policy()
            .with_fallback(scripted(takes(1, "cached")))
            .with_budget(ratio=0, min_per_second=1)
            .with_retry(3, wait=1)
        )
        operation = scripted(then=takes(1, OSError()))
        sweep.victim(policy.call(operation))
        return policy, operation

    def check(state: tuple[Policy, Any]) -> None:
        policy, operation = state
        _, budget, _ = policy.snapshot()["stages"]
        assert budget["spent"] == max(0, len(operation.calls) - 1)

    assert cancel_sweep(scenario, check) > 5
