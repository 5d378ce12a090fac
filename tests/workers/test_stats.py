"""What a pool of workers tells about itself."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from itertools import pairwise
from typing import Any

import pytest

from penstock import Health, Policy, RestartWorker, SkipTask, TryAgain, WorkerPool
from penstock.workers.stats import WorkerPoolStats, WorkerStats

pytestmark = pytest.mark.virtual_time


class Site:
    """A worker whose jobs do what their argument says."""

    async def do(self, what: object = None, seconds: float = 0) -> object:
        """Raise an exception, or the first of a list; return anything else."""
        if seconds:
            await asyncio.sleep(seconds)
        if isinstance(what, list):
            what = what.pop(0) if what else "done"
        if isinstance(what, BaseException):
            raise what
        return what


async def ended(*jobs: Any) -> list[Any]:
    """Wait until all have ended; return results and failures."""
    return await asyncio.gather(*jobs, return_exceptions=True)


def counters(stats: WorkerPoolStats) -> dict[str, float]:
    """Return what must never go back."""
    names = ("done", "failed", "cancelled", "run_again", "retried", "restarts")
    return {name: getattr(stats, name) for name in names} | stats.dropped


async def test_every_job_is_counted_once():
    """However it ended; calls past the line are jobs as well."""
    async with WorkerPool(Site, size=2) as pool:
        jobs = [await pool.submit(Site.do, what) for what in (1, OSError(), SkipTask(), 4)]
        await ended(*jobs, pool.workers.do(5), pool.workers.do(ValueError()))
        gone = await pool.submit(Site.do, seconds=9)
        await asyncio.sleep(1)
        gone.cancel()
        await ended(gone)

        stats = pool.stats()

    assert (stats.done, stats.failed, stats.cancelled) == (3, 3, 1)
    assert stats.dropped == {"failed": 2, "skipped": 1, "stopped": 0, "rejected": 0}
    assert (stats.queued, stats.running) == (0, 0)
    assert sum(worker.cancelled for worker in stats.workers) == 1


async def test_what_waits_and_what_runs_is_shown():
    """And since when the oldest has waited, whatever its priority."""
    async with WorkerPool(Site, size=1) as pool:
        jobs = [await pool.submit(Site.do, seconds=10)]
        await asyncio.sleep(1)
        jobs.append(await pool.submit("do", priority=0))
        await asyncio.sleep(2)
        jobs.append(await pool.submit("do", priority=5))
        await asyncio.sleep(3)

        stats = pool.stats()

        assert (stats.running, stats.queued, stats.oldest_waiting) == (1, 2, 5)
        assert [worker.in_flight for worker in stats.workers] == [1]
        await ended(*jobs)
        assert pool.stats().oldest_waiting == 0.0


async def test_each_worker_has_its_own_figures():
    """By place, with the mean latency and that of late."""
    async with WorkerPool(Site, size=2, pick="primary_backup") as pool:
        for seconds in (1, 3, 8):
            await pool.workers.do(seconds=seconds)
        await ended(pool.workers.do(OSError()))

        first, second = pool.stats().workers

    assert (first.id, first.index, first.state) == ("worker-0", 0, "up")
    assert (first.done, first.failed, first.latency) == (3, 1, 3.0)
    weights = [0.9**3, 0.9**2, 0.9, 1.0]
    recent = sum(w * s for w, s in zip(weights, (1, 3, 8, 0), strict=True)) / sum(weights)
    assert first.recent_latency == pytest.approx(recent)
    assert (second.done, second.latency, second.recent_latency) == (0, None, None)
    assert pool.stats().latency == 3.0


async def test_attempts_beyond_the_first_are_retries():
    """Of the pool and of the worker that made them."""
    policy = Policy("p").with_retry(4, wait=1)
    async with WorkerPool(Site, size=1, policy=policy) as pool:
        await ended(await pool.submit(Site.do, [TryAgain(), TryAgain()]))
        await pool.workers.do([TryAgain()])

        stats = pool.stats()

    assert (stats.done, stats.retried, stats.workers[0].retried) == (2, 3, 3)
    assert (stats.workers[0].done, stats.workers[0].failed) == (2, 3)


async def test_retries_of_a_workers_own_policy_are_counted_as_well():
    """They stay on that worker, and are one call of it."""
    policy = Policy("p").with_retry(4, wait=1)
    async with WorkerPool(Site, size=2, policy=policy, policy_per="worker") as pool:
        await pool.workers.do([TryAgain(), TryAgain()])

        stats = pool.stats()

    assert sorted(worker.retried for worker in stats.workers) == [0, 2]
    assert [worker.done for worker in stats.workers if worker.retried] == [1]


async def test_restarts_are_counted_whatever_they_were_for():
    """The first start is none."""
    async with WorkerPool(Site, size=1, restart_every=2) as pool:
        await ended(*[await pool.submit(Site.do) for _ in range(4)])
        await ended(await pool.submit(Site.do, RestartWorker()))
        await asyncio.sleep(60)

        stats = pool.stats()

    assert stats.restarts == stats.workers[0].restarts == 3


async def test_workers_are_counted_by_state():
    """All states are there, with 0 too."""
    async with WorkerPool(Site, size=3) as pool:
        await asyncio.sleep(1)

        assert pool.stats().by_state == {
            "starting": 0,
            "up": 3,
            "restarting": 0,
            "parked": 0,
            "stopping": 0,
            "stopped": 0,
        }


async def test_no_counter_goes_back_when_workers_leave_and_when_the_pool_begins_anew():
    """What they have done has been done."""
    policy = Policy("p").with_retry(2, wait=0)
    pool = WorkerPool(Site, size=4, policy=policy)
    await pool.start()
    seen = [counters(pool.stats())]
    for size in (4, 1, 3):
        await pool.resize(size)
        jobs = [await pool.submit(Site.do, [TryAgain()]) for _ in range(8)]
        await ended(*jobs, await pool.submit(Site.do, RestartWorker()))
        seen.append(counters(pool.stats()))
    await pool.stop()
    await pool.start()
    seen.append(counters(pool.stats()))
    await ended(await pool.submit(Site.do))
    await pool.kill()
    seen.append(counters(pool.stats()))

    for before, after in pairwise(seen):
        assert all(after[name] >= before[name] for name in before)
    assert (seen[-1]["done"], seen[-1]["failed"], seen[-1]["retried"]) == (25, 3, 27)
    assert pool.stats().latency is not None


async def test_the_mean_latency_is_of_all_workers_that_there_ever_were():
    """Not of those that have stayed."""
    async with WorkerPool(Site, size=2, pick="primary_backup") as pool:
        await asyncio.sleep(1)
        await ended(pool.workers.do(seconds=2), pool.workers.do(seconds=6))
        await pool.resize(1)

        stats = pool.stats()

    assert (stats.latency, len(stats.workers)) == (4.0, 1)


async def test_calls_whose_thread_goes_on_linger():
    """They keep their worker busy, and nobody waits for them."""
    pool = WorkerPool(Site, size=1)
    await pool.start()
    (slot,) = pool._run.slots.values()  # type: ignore[union-attr]
    member = pool._run.workers.machine.members[slot.id]  # type: ignore[union-attr]
    member.outlived = 1

    assert pool.stats().workers[0].lingering == 1
    member.outlived = 0
    await pool.kill()


async def test_a_pool_that_was_not_started_has_done_nothing():
    """Asking is allowed."""
    pool = WorkerPool(Site, size=3, max_size=5)

    stats = pool.stats()

    assert (stats.size, stats.max_size, stats.done, stats.workers) == (3, 5, 0, ())
    assert pool.snapshot() == {"pool": "workers", "mode": "asyncio", "state": "not started"}
    assert pool.health() == Health(0, 3, None, "it has not been started")


async def test_the_snapshot_is_plain_and_shows_no_secret():
    """It goes to logs and pages as it is."""
    async with WorkerPool(Site, size=1) as pool:
        running = await pool.submit(Site.do, "secret-1", seconds=9)
        waiting = await pool.submit(Site.do, OSError("secret-2"))
        await asyncio.sleep(1)

        shown = pool.snapshot()

        assert "secret" not in json.dumps(shown)
        assert shown["state"] == "running"
        assert (shown["queued"], shown["running"], shown["queue"]) == (1, 1, 1000)
        worker = shown["workers"]["worker-0"]
        assert (worker["state"], worker["standing"], worker["in_flight"]) == ("up", "full", 1)
        await ended(running, waiting)


async def test_the_snapshot_says_what_the_pool_is_doing():
    """Running, paused, by whom, or stopped."""
    pool = WorkerPool(Site, size=1)
    await pool.start()
    states = [pool.snapshot()["state"]]
    pool.pause()
    states.append(pool.snapshot()["state"])
    paused_for = pool.snapshot()["paused_for"]
    pool.resume()
    job = await pool.submit(Site.do, seconds=5)
    stopping = asyncio.create_task(pool.stop())
    await asyncio.sleep(1)
    states.append(pool.snapshot()["state"])
    await stopping
    states.append(pool.snapshot()["state"])

    assert states == ["running", "paused", "stopping", "stopped"]
    assert paused_for == ["user"]
    assert await job is None


async def test_health_is_that_of_the_workers():
    """None is ready while all are in use, or once the pool has been stopped."""
    async with WorkerPool(Site, size=2) as pool:
        await asyncio.sleep(1)
        idle = pool.health()
        jobs = [await pool.submit(Site.do, seconds=5) for _ in range(2)]
        await asyncio.sleep(1)
        busy = pool.health()
        await ended(*jobs)

    assert (idle.ready, idle.total, idle.earliest_ready_in) == (2, 2, 0.0)
    assert (busy.ready, busy.total) == (0, 2)
    assert pool.health() == Health(0, 2, None, "it was stopped")


def test_stats_are_frozen_and_all_of_their_fields_are_explained():
    """Nobody changes them, and nobody has to guess."""
    for kind in (WorkerPoolStats, WorkerStats):
        assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
        for field in dataclasses.fields(kind):
            assert f"{field.name}:" in (kind.__doc__ or "")


@pytest.mark.real_time
def test_other_threads_may_ask():
    """They wait for the next step of the pool's loop."""
    seen: list[Any] = []

    async def main() -> None:
        async with WorkerPool(Site, size=2) as pool:
            asking = threading.Thread(
                target=lambda: seen.extend([pool.stats(), pool.snapshot(), pool.health()])
            )
            await pool.workers.do()
            asking.start()
            while asking.is_alive():
                await pool.workers.do()
                await asyncio.sleep(0)

    asyncio.run(main())

    assert seen[0].done >= 1
    assert seen[1]["state"] == "running"
    assert seen[2].total == 2
