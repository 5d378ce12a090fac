"""Thousands of jobs in processes that are killed at random: each ends once, and as it must."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from typing import Any

import pytest
from process_staff import Clerk

from penstock import Policy
from penstock.errors import WorkerDiedError
from penstock.workers import Job, WorkerPool

pytestmark = pytest.mark.integration

PER_WORKER = 8


def live_pids(pool: WorkerPool[Any]) -> list[int]:
    """Return the processes that are up."""
    run: Any = pool._run
    engines = [slot.engine for slot in run.slots.values() if slot.engine is not None]
    return [engine._link._process.pid for engine in engines]


async def killed_at_random(pool: WorkerPool[Any], dice: random.Random) -> None:
    """Kill a worker every now and then."""
    while True:
        await asyncio.sleep(dice.uniform(0.005, 0.06))
        pids = live_pids(pool)
        if pids:
            try:
                os.kill(dice.choice(pids), signal.SIGKILL)
            except ProcessLookupError:
                continue


async def submitted(pool: WorkerPool[Any], number: int, dice: random.Random) -> Job[Any]:
    """Hand in one job of some kind."""
    match number % 5:
        case 0:
            return await pool.submit(Clerk.add_later, number, dice.uniform(0, 0.005))
        case 1:
            return await pool.submit(Clerk.fail, LookupError(number))
        case _:
            return await pool.submit(Clerk.add, number)


def outcome_of(number: int, job: Job[Any], cancelled: set[int]) -> str:
    """Return how a job has ended, having checked that it may have."""
    assert job.done()
    if job.cancelled():
        assert number in cancelled
        return "cancelled"
    error = job.exception()
    if error is None:
        assert number % 5 != 1
        assert job.result() == number + 1
        return "done"
    if isinstance(error, WorkerDiedError):
        return "died"
    assert number % 5 == 1
    assert isinstance(error, LookupError)
    assert error.args == (number,)
    return "failed"


async def stressed(jobs: int, seed: int, policy: Policy | None) -> Counter[str]:
    """Run so many jobs while workers are killed and jobs are cancelled; return what came of them.

    Checked on the way: each ends once, its result is its own, and nothing is left.
    """
    dice = random.Random(seed)
    ended: Counter[int] = Counter()
    cancelled: set[int] = set()
    handed_in: list[Job[Any]] = []
    pool: WorkerPool[Any] = WorkerPool(
        Clerk,
        mode="process",
        size=2,
        per_worker=PER_WORKER,
        queue=200,
        policy=policy,
        restart_delay=(0.0,),
        max_restarts=100_000,
        stop_timeout=5,
    )
    async with pool:
        killer = asyncio.create_task(killed_at_random(pool, dice))
        for number in range(jobs):
            job = await submitted(pool, number, dice)
            job.add_done_callback(lambda _, number=number: ended.update([number]))
            handed_in.append(job)
            if dice.random() < 0.05:
                victim = dice.randrange(max(0, number - 30), number + 1)
                if handed_in[victim].cancel():
                    cancelled.add(victim)
        async with asyncio.timeout(60):
            await asyncio.wait(handed_in)
        killer.cancel()
        await asyncio.wait([killer])
    assert killer.cancelled()
    assert len(ended) == jobs
    assert {*ended.values()} == {1}
    return Counter(outcome_of(n, job, cancelled) for n, job in enumerate(handed_in))


async def test_a_thousand_jobs_end_once_each_though_workers_are_killed() -> None:
    """Results match inputs; only calls of killed workers have died."""
    outcomes = await stressed(1000, seed=1, policy=None)

    assert outcomes["done"] > 600


@pytest.mark.slow
@pytest.mark.timeout(280)
async def test_twenty_thousand_jobs_end_once_each_and_retry_leaves_no_death_to_be_seen() -> None:
    """With enough attempts every job that nobody cancels comes to its own end."""
    policy = Policy("patient").with_retry(
        attempts=50, wait=0, retry_on=lambda failure: isinstance(failure, WorkerDiedError)
    )

    outcomes = await stressed(20_000, seed=2, policy=policy)

    assert outcomes["died"] == 0
    assert outcomes["cancelled"] > 100
