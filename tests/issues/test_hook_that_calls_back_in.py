"""A hook that changed the pool was told of its own change before those that had come first."""

from __future__ import annotations

import pytest

from penstock import CooldownResource, NoResourceError, Pool, Resource
from penstock.pools.news import Change
from penstock.testing import scripted

pytestmark = pytest.mark.virtual_time


async def test_changes_come_in_order_though_a_hook_makes_more_of_them() -> None:
    """Two keys of one account rest at once; the hook takes a third one out at the first news."""
    told: list[tuple[int, str, str]] = []

    def hook(change: Change) -> None:
        told.append((change.seq, change.resource, change.new))
        if change.seq == 1:
            pool.disable("c")

    keys = [Resource("1", "a", group="g"), Resource("2", "b", group="g"), Resource("3", "c")]
    pool = Pool(keys, on_state_change=hook)

    with pytest.raises(NoResourceError):
        await pool.using(attempts=1).run(scripted(CooldownResource(5)))

    assert told == [(1, "a", "cooling"), (2, "b", "cooling"), (3, "c", "disabled")]
