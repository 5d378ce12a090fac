"""How many workers a pool has, and how that changes while it runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock import ConfigError, Policy, PoolStoppedError, TryAgain, clock
from penstock.workers import WorkerPool

pytestmark = pytest.mark.virtual_time


class Clerk:
    """A worker that knows its place and counts who lives."""

    alive = 0
    most_alive = 0

    def __init__(self, takes: float = 0.0, fails_from: int = 10**9) -> None:
        self.takes = takes
        self.fails_from = fails_from

    async def start(self, index: int) -> None:
        self.index = index
        if index >= self.fails_from:
            raise OSError("no such place")
        Clerk.alive += 1
        Clerk.most_alive = max(Clerk.most_alive, Clerk.alive)
        await asyncio.sleep(self.takes)

    async def stop(self) -> None:
        Clerk.alive -= 1

    async def work(self, seconds: float = 0.0) -> int:
        await asyncio.sleep(seconds)
        return self.index


@pytest.fixture(autouse=True)
def _nobody_alive() -> None:
    Clerk.alive = Clerk.most_alive = 0


def places(pool: WorkerPool[Any]) -> list[int]:
    """Return the places that are taken."""
    assert pool._run is not None
    return sorted(slot.index for slot in pool._run.slots.values())


async def test_n_workers_hold_n_states() -> None:
    """C3: each of several calls at once has a worker of its own."""
    async with WorkerPool(Clerk, size=5) as pool:
        indexes = await asyncio.gather(*(pool.workers.work(1) for _ in range(5)))

    assert sorted(indexes) == [0, 1, 2, 3, 4]
    assert clock.now() == 1


async def test_resize_grows_while_jobs_run() -> None:
    """New workers take what waits as soon as they are up."""
    async with WorkerPool(Clerk, size=1) as pool:
        jobs = [await pool.submit("work", 10) for _ in range(3)]

        await pool.resize(3)

        await asyncio.gather(*jobs)
        assert clock.now() == 10
        assert places(pool) == [0, 1, 2]


async def test_resize_returns_when_the_new_ones_are_up() -> None:
    """Whoever waits for it has the workers."""
    async with WorkerPool(Clerk, kwargs={"takes": 3}, size=1) as pool:
        began = clock.now()

        await pool.resize(3)

        assert clock.now() - began == 3
        assert Clerk.alive == 3


async def test_resize_raises_what_a_new_worker_failed_with() -> None:
    """The old ones work on, and the new one is parked."""
    async with WorkerPool(Clerk, kwargs={"fails_from": 1}, size=1, max_restarts=1) as pool:
        with pytest.raises(OSError, match="no such place"):
            await pool.resize(2)

        assert await pool.workers.work() == 0


async def test_resize_stops_the_highest_places_when_their_calls_have_ended() -> None:
    """No call is cut off, and no new one is given to who leaves."""
    async with WorkerPool(Clerk, size=3) as pool:
        jobs = [await pool.submit("work", 10) for _ in range(3)]
        await asyncio.sleep(1)
        shrinking = asyncio.create_task(pool.resize(1))
        await asyncio.sleep(1)
        more = [await pool.submit("work") for _ in range(5)]

        indexes = await asyncio.gather(*jobs, *more)
        await shrinking

        assert sorted(indexes[:3]) == [0, 1, 2]
        assert indexes[3:] == [0] * 5
        assert Clerk.alive == 1
        assert pool._run is not None
        assert [*pool._run.workers.machine.members] == ["worker-0"]


async def test_resize_takes_the_lowest_free_places_again() -> None:
    """Places stand for something: a card, a port."""
    async with WorkerPool(Clerk, size=4) as pool:
        await pool.resize(2)
        await pool.resize(3)

        assert places(pool) == [0, 1, 2]


async def test_resize_twice_at_once_ends_with_the_later_size() -> None:
    """The second does not wait for the first to have its way."""
    async with WorkerPool(Clerk, kwargs={"takes": 1}, size=2) as pool:
        await asyncio.gather(pool.resize(5), pool.resize(3))

        assert len(places(pool)) == 3
        assert Clerk.alive == 3


@pytest.mark.parametrize("size", [0, -1, 2.5, True, float("nan"), None, "2"])
async def test_resize_refuses_what_is_no_size(size: Any) -> None:
    """The error names the field, the value and what is allowed."""
    async with WorkerPool(Clerk, size=1) as pool:
        with pytest.raises(ConfigError, match=r"'size' must be a whole number of at least 1; got"):
            await pool.resize(size)


async def test_resize_refuses_more_than_max_size() -> None:
    """The bound of the options holds."""
    async with WorkerPool(Clerk, size=1, max_size=3) as pool:
        with pytest.raises(ConfigError, match=r"'size' must be a whole number from 1 to 3; got 4"):
            await pool.resize(4)


async def test_resize_after_stop_is_refused() -> None:
    """A pool that takes no jobs takes no workers."""
    pool = WorkerPool(Clerk, size=1)
    await pool.start()
    await pool.stop()

    with pytest.raises(PoolStoppedError):
        await pool.resize(2)


async def test_stop_during_a_resize_ends_it() -> None:
    """Workers that were on their way up, or down, are gone."""
    pool = WorkerPool(Clerk, kwargs={"takes": 5}, size=1)
    await pool.start()
    growing = asyncio.create_task(pool.resize(3))
    await asyncio.sleep(1)

    await pool.stop()
    await growing

    assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []


async def test_a_worker_that_joins_a_paused_pool_pauses_too() -> None:
    """No call is given to anybody until the pause ends."""
    async with WorkerPool(Clerk, size=1) as pool:
        pool.pause()
        await pool.resize(2)
        jobs = [await pool.submit("work", 1) for _ in range(2)]
        await asyncio.sleep(10)
        waiting = [job.done() for job in jobs]

        pool.resume()

        assert waiting == [False, False]
        assert sorted(await asyncio.gather(*jobs)) == [0, 1]
        assert clock.now() == 11


async def test_a_call_that_waits_inside_its_policy_is_not_served_in_a_pause() -> None:
    """Neither by those that were there nor by those that have joined."""

    class Moody(Clerk):
        tries = 0

        async def work(self, seconds: float = 0.0) -> int:
            Moody.tries += 1
            if Moody.tries == 1:
                raise TryAgain
            return await super().work(seconds)

    policy = Policy("again").with_retry(attempts=2, wait=1)
    async with WorkerPool(Moody, size=1, policy=policy) as pool:
        job = await pool.submit("work")
        await asyncio.sleep(0.5)
        pool.pause()
        await pool.resize(2)
        await asyncio.sleep(10)
        before = job.done()
        pool.resume()

        assert (before, await job in (0, 1)) == (False, True)


async def test_a_worker_restarts_during_a_pause_and_serves_after_it() -> None:
    """A pause and an absence end each for itself."""
    async with WorkerPool(Clerk, size=1) as pool:
        pool.pause()
        await pool.restart()
        job = await pool.submit("work")
        await asyncio.sleep(1)
        before = job.done()
        pool.resume()

        assert (before, await job) == (False, 0)


async def test_extra_workers_start_while_jobs_wait() -> None:
    """C19: one for each job that waits, and never more than ``max_size``."""
    async with WorkerPool(Clerk, size=1, max_size=4, queue=None) as pool:
        jobs = [await pool.submit("work", 10) for _ in range(10)]
        await asyncio.gather(*jobs)

        assert clock.now() == 30
        assert Clerk.most_alive == 4


async def test_one_waiting_job_starts_one_worker() -> None:
    """Not all that there may be."""
    async with WorkerPool(Clerk, kwargs={"takes": 1}, size=1, max_size=8) as pool:
        jobs = [await pool.submit("work", 5) for _ in range(2)]
        await asyncio.gather(*jobs)

        assert Clerk.most_alive == 2


async def test_no_extra_worker_starts_while_somebody_is_ready() -> None:
    """Jobs that need not wait need nobody."""
    async with WorkerPool(Clerk, size=2, max_size=8) as pool:
        for _ in range(5):
            await asyncio.gather(pool.workers.work(1), pool.workers.work(1))

        assert Clerk.most_alive == 2


async def test_no_extra_worker_starts_in_a_pause() -> None:
    """It could not serve anyway."""
    async with WorkerPool(Clerk, size=1, max_size=4) as pool:
        pool.pause()
        jobs = [await pool.submit("work", 1) for _ in range(4)]
        await asyncio.sleep(5)
        paused = Clerk.most_alive
        pool.resume()
        await asyncio.gather(*jobs)

        assert (paused, Clerk.most_alive) == (1, 4)


async def test_a_call_that_waits_inside_its_policy_starts_a_worker_too() -> None:
    """A retry that finds nobody ready waits as a job in line does."""
    tries = 0

    class Busy(Clerk):
        async def work(self, seconds: float = 0.0) -> int:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise TryAgain
            return await super().work(seconds)

    policy = Policy("again").with_retry(attempts=2, wait=1)
    async with WorkerPool(Busy, size=1, max_size=2, policy=policy) as pool:
        first = await pool.submit("work", 10)
        await asyncio.sleep(0.5)
        second = await pool.submit("work", 10)

        await asyncio.gather(first, second)

        assert clock.now() == 11
        assert Clerk.most_alive == 2


async def test_idle_extra_workers_stop_and_the_others_stay() -> None:
    """Whoever is above ``size`` and had nothing to do for ``idle_timeout`` goes."""
    async with WorkerPool(Clerk, size=1, max_size=4, idle_timeout=60) as pool:
        await asyncio.gather(*[await pool.submit("work", 10) for _ in range(4)])
        await asyncio.sleep(59)
        before = Clerk.alive
        await asyncio.sleep(2)

        assert (before, Clerk.alive) == (4, 1)
        assert places(pool) == [0]


async def test_busy_extra_workers_stay_until_they_are_idle() -> None:
    """A long call is not cut off, and counts as no idleness."""
    async with WorkerPool(Clerk, size=1, max_size=2, idle_timeout=10) as pool:
        jobs = [await pool.submit("work", 100) for _ in range(2)]
        await asyncio.sleep(50)
        assert pool._run is not None
        states = {slot.state.value for slot in pool._run.slots.values()}
        await asyncio.gather(*jobs)
        await asyncio.sleep(25)

        assert states == {"up"}
        assert Clerk.alive == 1


async def test_workers_of_the_first_places_stay_though_others_were_busy_longer() -> None:
    """Who is always there is always the same: places stand for something."""
    async with WorkerPool(Clerk, size=1, max_size=2, idle_timeout=10) as pool:
        short, long = [await pool.submit("work", seconds) for seconds in (1, 30)]
        assert await short == 0
        assert await long == 1
        await asyncio.sleep(25)

        assert places(pool) == [0]


async def test_extra_workers_come_again_after_they_have_left() -> None:
    """The next rush finds places free."""
    async with WorkerPool(Clerk, size=1, max_size=3, idle_timeout=5) as pool:
        for _ in range(3):
            await asyncio.gather(*[await pool.submit("work", 10) for _ in range(3)])
            await asyncio.sleep(30)
            assert Clerk.alive == 1

    assert Clerk.most_alive == 3
    assert Clerk.alive == 0


async def test_extra_workers_keep_to_the_start_interval() -> None:
    """A rush does not start all at once what must be started one after the other."""
    async with WorkerPool(Clerk, size=1, max_size=3, start_interval=2) as pool:
        jobs = [await pool.submit("work", 100) for _ in range(3)]
        await asyncio.sleep(3)
        early = Clerk.alive
        await asyncio.sleep(2)

        assert (early, Clerk.alive) == (2, 3)
        await pool.kill()
        assert all(job.done() for job in jobs)


async def test_an_extra_worker_that_cannot_start_leaves_its_place() -> None:
    """It is parked, and goes when the time for idle ones is up."""
    async with WorkerPool(
        Clerk, kwargs={"fails_from": 1}, size=1, max_size=2, max_restarts=1, idle_timeout=20
    ) as pool:
        await asyncio.gather(*[await pool.submit("work", 5) for _ in range(2)])
        parked = places(pool)
        await asyncio.sleep(30)

        assert (parked, places(pool)) == ([0, 1], [0])
