"""Cancels, deaths and changes of size at every point: nobody is lost, nothing is left."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from penstock import NoResourceError, PoolStoppedError, RestartWorker, WorkerDiedError
from penstock.testing import Sweep, VirtualTimeLoop, cancel_sweep, run
from penstock.workers import WorkerPool
from penstock.workers.slot import SlotState


class Logged:
    """A worker whose life takes time; the class counts who is up."""

    def __init__(self, up: list[int]) -> None:
        self.up = up

    async def start(self, index: int) -> None:
        self.index = index
        await asyncio.sleep(1)
        self.up.append(index)

    async def stop(self) -> None:
        self.up.remove(self.index)
        await asyncio.sleep(1)

    async def work(self, value: int = 0, failure: BaseException | None = None) -> int:
        await asyncio.sleep(1)
        if failure is not None:
            raise failure
        return value


Books = tuple[WorkerPool[Logged], list[int]]


def settled(books: Books) -> None:
    """Check that everything has come to its end."""
    pool, up = books
    run_ = pool._run
    assert run_ is not None
    assert up == []
    assert {slot.state for slot in run_.slots.values()} <= {SlotState.STOPPED}
    assert run_.dispatcher.unfinished == 0
    assert run_.dispatcher.starting == 0
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    assert [timer for timer in loop._scheduled if not timer.cancelled()] == []


def sweep_of(
    act: Callable[[WorkerPool[Logged]], Coroutine[Any, Any, Any]],
    *,
    waits: bool = True,
    **options: Any,
) -> int:
    """Cancel what acts on a pool at every point, while two jobs go on; then stop the pool."""

    async def scenario(sweep: Sweep) -> Books:
        up: list[int] = []
        pool = WorkerPool(Logged, up, **{"size": 2, **options})
        await pool.start()
        jobs = [await pool.submit("work", value) for value in range(4)]

        async def owner() -> None:
            results = await asyncio.gather(*jobs, return_exceptions=True)
            allowed = (PoolStoppedError,)
            assert all(r == i or isinstance(r, allowed) for i, r in enumerate(results)), results
            await asyncio.sleep(20)
            await pool.stop()

        sweep.victim(act(pool))
        sweep.beside(owner())
        return pool, (up if waits else [])

    return cancel_sweep(scenario, settled)


def test_a_cancelled_start_leaves_nothing() -> None:
    """At whatever point: no worker is up, no task runs."""

    async def scenario(sweep: Sweep) -> Books:
        up: list[int] = []
        pool = WorkerPool(Logged, up, size=2, start_interval=0.5)

        async def victim() -> None:
            await pool.start()
            await pool.stop()

        sweep.victim(victim())
        await asyncio.sleep(0)
        return pool, up

    def check(books: Books) -> None:
        # One that was killed while it started never had its ``stop``, and holds nothing.
        if books[0]._run is not None:
            settled(books)

    assert cancel_sweep(scenario, check) > 5


def test_a_cancelled_use_stops_the_workers() -> None:
    """T16, at every point of a whole life."""

    async def scenario(sweep: Sweep) -> Books:
        up: list[int] = []
        pool = WorkerPool(Logged, up, size=2, start_interval=0.5)

        async def victim() -> None:
            async with pool:
                jobs = [await pool.submit("work", value) for value in range(4)]
                await asyncio.gather(*jobs)

        sweep.victim(victim())
        await asyncio.sleep(0)
        return pool, up

    def check(books: Books) -> None:
        if books[0]._run is not None:
            settled(books)

    assert cancel_sweep(scenario, check) > 10


@pytest.mark.parametrize(
    "act",
    [
        lambda pool: pool.stop(),
        lambda pool: pool.stop(timeout=1.5),
        lambda pool: pool.drain(),
        lambda pool: pool.restart(),
        lambda pool: pool.resize(4),
        lambda pool: pool.resize(1),
    ],
    ids=["stop", "stop-in-time", "drain", "restart", "grow", "shrink"],
)
def test_a_cancelled_change_loses_no_job_and_no_worker(act: Any) -> None:
    """Jobs end with their own results or are refused, workers stop, nothing is left."""
    assert sweep_of(act) > 1


def test_a_cancelled_kill_ends_everything_all_the_same() -> None:
    """Who does not even wait for that gets no ``stop`` of the workers; nothing else is left."""

    async def act(pool: WorkerPool[Logged]) -> None:
        await pool.kill()

    assert sweep_of(act, waits=False) > 1


def test_a_cancelled_call_on_a_pool_that_grows_by_itself_loses_nobody() -> None:
    """The extra worker that was started for it serves the next, or goes when it is idle."""

    async def act(pool: WorkerPool[Logged]) -> None:
        await pool.workers.work(7)

    assert sweep_of(act, size=1, max_size=3, idle_timeout=5) > 5


ENDINGS = (
    asyncio.CancelledError,
    NoResourceError,
    PoolStoppedError,
    RestartWorker,
    ValueError,
    WorkerDiedError,
)


class Rampage:
    """Does everything to one pool at once.

    Attributes:
        pool: The pool.
        tasks: Calls of its workers, and changes of it.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.pool = WorkerPool(
            Logged,
            [],
            size=2,
            max_size=4,
            queue=5,
            idle_timeout=3,
            per_worker=chance.choice([1, 2]),
            restart_every=chance.choice([None, 3]),
            start_interval=chance.choice([0, 0.5]),
            max_restarts=chance.choice([3, 1000]),
            restart_delay=(0, 0.5),
        )
        self.tasks: list[asyncio.Task[Any]] = []

    async def call(self, value: int) -> int:
        """Call a worker, past the line or in it."""
        chance = self.chance
        failure = chance.choice([None] * 6 + [RestartWorker(), SystemExit(1), ValueError(value)])
        if chance.random() < 0.5:
            result: int = await self.pool.workers.work(value, failure)
            return result
        job: Any = await self.pool.submit("work", value, failure)
        return await job  # type: ignore[no-any-return]

    def lose(self, how: str) -> None:
        """Let a worker die, or be unhealthy."""
        assert self.pool._run is not None
        slot = self.chance.choice([*self.pool._run.slots.values()])
        if slot.engine is not None:
            getattr(self.pool._run.supervisor, how)(slot, slot.engine, how)

    def disturb(self) -> None:
        """Do one thing, or nothing."""
        pool, chance = self.pool, self.chance
        match chance.randrange(12):
            case 0:
                self.lose("died")
            case 1:
                self.lose("unhealthy")
            case 2:
                chance.choice(self.tasks).cancel()
            case 3:
                self.tasks.append(asyncio.create_task(pool.resize(chance.randint(1, 4))))
            case 4:
                self.tasks.append(asyncio.create_task(pool.restart()))
            case 5:
                pool.pause()
            case 6 | 7:
                pool.resume()
            case _:
                pass

    async def end(self) -> None:
        """End the pool, in one way or another."""
        match self.chance.randrange(4):
            case 0:
                await self.pool.stop(timeout=self.chance.choice([0, 2]))
            case 1:
                await self.pool.kill()
            case _:
                await self.pool.stop()


async def _rampage(seed: int) -> None:
    rampage = Rampage(random.Random(seed))
    await rampage.pool.start()
    for value in range(60):
        rampage.tasks.append(asyncio.create_task(rampage.call(value)))
        await asyncio.sleep(rampage.chance.choice([0, 0, 0.1, 0.7]))
        rampage.disturb()
    await rampage.end()
    results = await asyncio.gather(*rampage.tasks, return_exceptions=True)
    await asyncio.sleep(0)

    calls = [result for result in results if result is not None]
    assert all(isinstance(result, (int, *ENDINGS)) for result in calls), calls
    values = [result for result in calls if isinstance(result, int)]
    assert len(values) == len({*values}), "no result belongs to two calls"
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    settled((rampage.pool, []))
    assert rampage.pool._run is not None
    for slot in rampage.pool._run.slots.values():
        assert (slot.engine, slot.passing, slot.task) == (None, None, None)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_every_job_ends_and_nothing_is_left(seed: int) -> None:
    """Deaths, restarts, cancels, pauses and changes of size, all at once."""
    run(_rampage(seed))
