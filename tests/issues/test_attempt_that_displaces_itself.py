"""An operation that cooled its resource through an older lease of its own task cancelled itself."""

from __future__ import annotations

import asyncio

import pytest

from penstock import Pool, Resource

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize("seconds", [0, 1])
async def test_it_runs_on_and_no_cancel_is_left_behind(seconds: float) -> None:
    """On Python 3.11 the cancel met whatever the caller awaited next."""
    pool = Pool(["value"])

    async with pool.lease() as older:

        async def operation(_resource: Resource[str]) -> str:
            older.cooldown(30)
            if seconds:
                await asyncio.sleep(seconds)
            return "done"

        result = await pool.run(operation)
        await asyncio.sleep(1)

    task = asyncio.current_task()
    assert result == "done"
    assert task is not None
    assert task.cancelling() == 0
