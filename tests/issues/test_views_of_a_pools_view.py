"""A view of a pool's view raised KeyError: 'priority'."""

from __future__ import annotations

import pytest

from penstock import Pool, current_call

pytestmark = pytest.mark.virtual_time


async def test_a_view_of_a_view_keeps_what_the_first_one_set() -> None:
    """Each lays its own over the one before; what it does not name stays."""
    pool = Pool(["value"])

    async def operation(_resource: object) -> tuple[str | None, int]:
        overrides = current_call().context.overrides
        return overrides.key, overrides.priority

    view = pool.using(key="tenant", priority=3).using(attempts=2).using(priority=4)

    assert await view.run(operation) == ("tenant", 4)
