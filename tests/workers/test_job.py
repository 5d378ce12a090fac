"""A job as a future: light while it waits, flat to finish, empty when it has ended."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc
import weakref
from typing import Any

import pytest

from penstock import PoolStoppedError, SkipTask, StopPool
from penstock.testing import run
from penstock.workers import Job, JobState, WorkerPool

pytestmark = pytest.mark.virtual_time

# What the goal says; half of it is the future and its context.
_MOST_BYTES = 600


class Clerk:
    """Waits until it is let go on."""

    async def work(self, value: Any, gate: asyncio.Future[None] | None = None) -> Any:
        if gate is not None:
            await gate
        return value

    async def interrupt(self) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("signal", [StopPool, SkipTask])
def test_a_job_that_ends_with_a_signal_is_reported_by_the_pool_alone(signal, caplog):
    """It was meant for the pool, which tells of it; asyncio has nothing to add when it is lost."""

    async def main() -> None:
        pool = WorkerPool.of(lambda: (_ for _ in ()).throw(signal("enough")), size=1)
        with contextlib.suppress(PoolStoppedError, signal):
            async with pool:
                await pool.submit()
                await pool.join()

    run(main())
    gc.collect()

    assert [r for r in caplog.records if r.name == "asyncio"] == []


def test_a_job_in_line_takes_no_more_than_600_bytes():
    """Its arguments are the caller's; the rest is ours."""

    async def main() -> float:
        async with WorkerPool(Clerk, size=1, queue=None) as pool:
            gate = asyncio.get_running_loop().create_future()
            first = await pool.submit("work", 0, gate)
            await asyncio.sleep(0)
            kept: list[Any] = [None] * 2000
            gc.collect()
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            for number in range(2000):
                kept[number] = await pool.submit("work", number)
            taken = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            gate.set_result(None)
            await asyncio.gather(first, *kept)
            return taken / 2000

    assert run(main()) <= _MOST_BYTES


def test_a_job_is_shown_with_what_it_calls_and_where_it_stands():
    """Never with its arguments."""

    async def main() -> None:
        async with WorkerPool(Clerk, size=1) as pool:
            job = await pool.submit("work", 1)
            await job
            assert repr(job) == "<Job 'Clerk.work', ended>"

    run(main())


def test_an_ended_job_holds_nothing_but_its_result():
    """Whoever keeps it does not keep what it was called with."""

    class Big:
        pass

    async def main() -> None:
        async with WorkerPool(Clerk, size=1) as pool:
            big = Big()
            gone = weakref.ref(big)
            job = await pool.submit("work", [1], gate=None)
            holding = await pool.submit(lambda worker, thing: None, big)
            cancelled = await pool.submit("work", big)
            cancelled.cancel()
            holding.cancel()
            del big
            await job
            await asyncio.wait([holding, cancelled])
            await asyncio.sleep(0)
            gc.collect()

            assert gone() is None
            assert job.args == ()

    run(main())


def test_jobs_may_finish_in_any_order():
    """The last one first: each has its own result."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with WorkerPool(Clerk, size=1, per_worker=500, queue=None) as pool:
            gates = [loop.create_future() for _ in range(500)]
            jobs = [await pool.submit("work", number, gate) for number, gate in enumerate(gates)]
            while pool.stats().queued:  # noqa: ASYNC110 - nobody tells when it is empty
                await asyncio.sleep(0)
            for gate in reversed(gates):
                gate.set_result(None)

            assert await asyncio.gather(*jobs) == [*range(500)]

    run(main())


def test_an_interrupt_ends_the_program_and_no_job_is_left_waiting():
    """As a task's would; the pool ends what is left."""
    jobs: list[Job[Any]] = []

    async def main() -> None:
        # That nobody asks for the interrupt of the task is told there.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with WorkerPool(Clerk, size=1) as pool:
            jobs.append(await pool.submit("interrupt"))
            jobs.append(await pool.submit("work", 1))
            await asyncio.wait(jobs)

    with pytest.raises(KeyboardInterrupt):
        run(main())

    assert all(job.done() for job in jobs)
    assert isinstance(jobs[0].exception(), KeyboardInterrupt)


def test_a_job_tells_where_it_stands():
    """Queued, starting, running, ended."""

    async def main() -> list[JobState]:
        loop = asyncio.get_running_loop()
        async with WorkerPool(Clerk, size=1) as pool:
            gate = loop.create_future()
            job = await pool.submit("work", 1, gate)
            behind = await pool.submit("work", 1)
            states = [job.state, behind.state]
            await asyncio.sleep(0)
            states.append(job.state)
            gate.set_result(None)
            await asyncio.gather(job, behind)
            return [*states, job.state]

    assert run(main()) == [
        JobState.STARTING,
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.ENDED,
    ]
