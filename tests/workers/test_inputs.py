"""Jobs as arguments of jobs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock import PolicyError
from penstock.testing import run
from penstock.workers import JobState, WorkerPool

pytestmark = pytest.mark.virtual_time


class Clerk:
    """Gives back what it is given."""

    async def give(self, value: Any = None, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(1)
        return [value, *args, kwargs] if args or kwargs else value

    async def fail(self) -> None:
        await asyncio.sleep(1)
        raise ValueError("no")


def balanced(pool: WorkerPool[Any]) -> bool:
    """Nothing is held, and nobody waits."""
    dispatcher = pool._run.dispatcher
    return not (dispatcher.unfinished or dispatcher.starting or dispatcher._held_back)


def test_jobs_are_replaced_by_their_results_wherever_they_are():
    """In lists, tuples, sets and dicts, however deep; by keyword too."""

    async def main() -> Any:
        async with WorkerPool(Clerk, size=4) as pool:
            jobs = [await pool.submit("give", number) for number in range(6)]
            return await pool.workers.give(
                jobs[0],
                [jobs[1], (jobs[2], 7)],
                {jobs[3]},
                more={"deep": {"er": [jobs[4]]}, "k": 1},
            )

    assert run(main()) == [0, [1, (2, 7)], {3}, {"more": {"deep": {"er": [4]}, "k": 1}}]


def test_a_chain_of_pools_delivers_in_order():
    """Three stages, each a pool of its own."""

    async def main() -> list[int]:
        async with (
            WorkerPool(Clerk, size=2) as first,
            WorkerPool(Clerk, size=3) as second,
            WorkerPool(Clerk, size=1) as third,
        ):
            jobs = []
            for number in range(20):
                one = await first.submit("give", number)
                two = await second.submit("give", one)
                jobs.append(await third.submit("give", two))
            return [await job for job in jobs]

    assert run(main()) == [*range(20)]


def test_a_failed_input_fails_the_job_that_waits_for_it():
    """With the input's own error; the job never runs."""

    async def main() -> None:
        async with WorkerPool(Clerk, size=1) as pool:
            failing = await pool.submit("fail")
            job = await pool.submit("give", failing)
            assert job.state is JobState.WAITING
            with pytest.raises(ValueError, match="no"):
                await job
            with pytest.raises(ValueError, match="no"):
                await failing
            assert balanced(pool)

    run(main())


def test_a_cancelled_input_cancels_the_job_that_waits_for_it():
    """It can never have what it needs."""

    async def main() -> None:
        async with WorkerPool(Clerk, size=1) as pool:
            first = await pool.submit("give", 1)
            job = await pool.submit("give", first)
            first.cancel()
            await asyncio.wait([job])
            assert job.cancelled()
            assert balanced(pool)

    run(main())


def test_a_job_that_waits_for_another_can_be_cancelled():
    """The input goes on."""

    async def main() -> None:
        async with WorkerPool(Clerk, size=1) as pool:
            first = await pool.submit("give", 1)
            job = await pool.submit("give", first)
            assert job.cancel()
            assert await first == 1
            assert job.cancelled()
            assert balanced(pool)

    run(main())


def test_jobs_that_wait_for_others_take_places_in_line():
    """Chaining is no way round the bound."""

    async def main() -> None:
        async with WorkerPool(Clerk, size=1, queue=2) as pool:
            first = await pool.submit("give", 1)
            for _ in range(2):
                await pool.submit("give", first)
            late = asyncio.create_task(pool.submit("give", first))
            await asyncio.sleep(0.5)
            assert not late.done()
            assert await (await late) == 1
            await pool.join()
            assert balanced(pool)

    run(main())


def test_results_that_cannot_be_in_a_set_fail_the_job_that_wants_them_there():
    """Instead of nobody ever hearing of it."""

    async def main() -> None:
        async with WorkerPool(Clerk, size=1) as pool:
            first = await pool.submit("give", [1])
            job = await pool.submit("give", {first})
            with pytest.raises(TypeError, match="unhashable"):
                await job
            assert balanced(pool)

    run(main())


def test_an_argument_that_holds_itself_is_passed_as_it_is():
    """It is looked through once."""

    async def main() -> Any:
        async with WorkerPool(Clerk, size=1) as pool:
            ring: list[Any] = [1]
            ring.append(ring)
            return ring is await pool.workers.give(ring)

    assert run(main())


def test_a_job_of_another_loop_is_refused_as_an_argument():
    """Its result is to be had there alone."""

    async def elsewhere() -> Any:
        async with WorkerPool(Clerk, size=1) as pool:
            job = await pool.submit("give", 1)
            await job
            return job

    async def main(foreign: Any) -> None:
        async with WorkerPool(Clerk, size=1) as pool:
            with pytest.raises(PolicyError, match="its own event loop"):
                await pool.submit("give", foreign)
            assert balanced(pool)

    run(main(run(elsewhere())))
