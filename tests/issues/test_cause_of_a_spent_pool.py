"""A pool whose attempts were spent named no cause: the last failure was its context alone."""

from __future__ import annotations

import pytest

from penstock import CooldownResource, NoResourceError, Pool, TryAgain

pytestmark = pytest.mark.virtual_time


async def test_the_last_failure_is_the_cause_when_the_attempts_are_spent():
    """It says what was wrong with the resource."""
    pool = Pool(["a", "b"], attempts=1)

    async def limited(resource):
        raise CooldownResource(5)

    with pytest.raises(NoResourceError) as caught:
        await pool.run(limited)

    assert caught.value.case == "attempts_spent"
    assert isinstance(caught.value.__cause__, CooldownResource)


async def test_the_last_failure_is_the_cause_when_no_time_is_left_for_another_attempt():
    """It is known before the pause."""
    pool = Pool(["a", "b"])

    async def busy(resource):
        raise TryAgain("busy", after=10)

    with pytest.raises(NoResourceError) as caught:
        await pool.using(start_within=5).run(busy)

    assert caught.value.case == "deadline"
    assert isinstance(caught.value.__cause__, TryAgain)
