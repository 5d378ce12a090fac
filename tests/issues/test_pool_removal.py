"""What a removed resource left behind: its value, its uses' count, a cap that no longer held."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from penstock import CooldownResource, NoResourceError, Pool, Resource
from penstock.pools.picking import PICKERS
from penstock.testing import VirtualTimeLoop, scripted, takes

pytestmark = pytest.mark.virtual_time


class Value:
    """A resource's value that tells when nobody holds it any more."""


@pytest.mark.parametrize("pick", PICKERS)
@pytest.mark.parametrize("state", ["idle", "used", "in use", "cooling", "waited for"])
async def test_a_removed_value_is_held_by_nobody(pick: str, state: str) -> None:
    """Whatever it was doing, once its last use has ended."""
    pool = Pool({"gone": Resource(Value(), max_in_flight=1), "other": Value()}, pick=pick)
    value = weakref.ref(pool.machine.members["gone"].resource.value)
    pool.disable("other")
    if state == "used":
        await pool.run(scripted("done"))
    if state == "cooling":
        with pytest.raises(NoResourceError):
            await pool.run(scripted(CooldownResource(500)))
    if state in {"in use", "waited for"}:
        views = [pool, pool.using(max_wait=1000)][: 1 + (state == "waited for")]
        uses = [asyncio.create_task(view.run(scripted(takes(5)))) for view in views]
        await asyncio.sleep(6 * len(uses) - 5)
        pool.enable("other")
        pool.remove("gone")
        await asyncio.wait(uses)
        uses.clear()
    else:
        pool.remove("gone")

    gc.collect()

    assert value() is None


async def test_a_removed_value_is_not_kept_until_its_rest_would_be_over() -> None:
    """Another one that rests is back before it."""
    pool = Pool({"first back": Value(), "gone": Value()})
    value = weakref.ref(pool.machine.members["gone"].resource.value)
    with pytest.raises(NoResourceError):
        await pool.run(scripted(CooldownResource(5), CooldownResource(500)))

    pool.remove("gone")
    gc.collect()

    assert value() is None
    assert pool.health().earliest_ready_in == 5


async def test_a_cap_holds_for_uses_that_began_two_removals_ago() -> None:
    """Removed and taken in again twice while one call goes on: it still counts."""
    pool = Pool([Resource("value", "a", max_in_flight=1)])
    work = scripted(then=takes(10))
    first = asyncio.create_task(pool.run(work))
    await asyncio.sleep(1)

    for _ in range(2):
        pool.remove("a")
        pool.add(Resource("value", "a", max_in_flight=1))
    with pytest.raises(NoResourceError) as caught:
        await pool.run(work)
    await first
    await pool.run(work)

    assert caught.value.case == "all_full"
    assert work.most_in_flight == 1


async def test_a_resource_that_ends_a_wait_by_being_added_is_not_taken_for_slow() -> None:
    """Its first use began now, not at second 0 of the clock."""
    pool = Pool([Resource("value", "old", max_in_flight=1)], pick="p2c_ewma")
    await asyncio.sleep(1000)
    holder = asyncio.create_task(pool.run(scripted(takes(5))))
    await asyncio.sleep(1)
    waiter = asyncio.create_task(pool.using(max_wait=100).run(scripted(takes(2))))
    await asyncio.sleep(1)

    pool.add(Resource("value", "new"))
    await asyncio.gather(holder, waiter)

    assert pool.machine.members["new"].candidates[0].latency == pytest.approx(2)


def test_uses_of_a_removed_resource_that_a_loop_took_along_are_counted_as_cancelled() -> None:
    """Nobody ends them any more; the resource of the same id has all of its room."""
    pool = Pool([Resource("value", "a", max_in_flight=1)])
    lost: list[asyncio.Task[object]] = []

    async def leave() -> None:
        lost.append(asyncio.create_task(pool.run(scripted(takes(10)))))
        await asyncio.sleep(1)
        pool.remove("a")
        pool.add(Resource("value", "a", max_in_flight=1))

    loop = VirtualTimeLoop()
    loop.run_until_complete(leave())
    lost[0]._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        result = runner.run(pool.run(scripted("next")))
    stats = pool.stats()

    assert result == "next"
    assert (stats.uses, stats.successes, stats.cancelled, stats.in_flight) == (2, 1, 1, 0)
