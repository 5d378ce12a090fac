"""Pools of workers in metrics and log events."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber

from penstock import Escalation, RestartWorker, StopPool, TripBreaker, WorkerPool

pytestmark = pytest.mark.virtual_time

QUEUED, RUNNING = "penstock.queued_jobs", "penstock.running_jobs"
STATES, DROPPED = "penstock.worker.state", "penstock.dropped_jobs"


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


async def test_jobs_in_line_and_under_way_are_counted_by_pool(readings: Any):
    """Two pools of one name are added up."""
    pools = [WorkerPool(Site, size=1, name=name) for name in ("crew", "crew", "other")]
    for pool in pools:
        await pool.start()
    jobs = [await pool.submit(Site.do, seconds=5) for pool in pools[:2] for _ in range(3)]
    await asyncio.sleep(1)

    queued, running = readings.series(QUEUED, "pool.name"), readings.series(RUNNING, "pool.name")

    assert queued == {"crew": 4, "other": 0}
    assert running == {"crew": 2, "other": 0}
    await ended(*jobs)
    for pool in pools:
        await pool.kill()


async def test_workers_are_counted_by_state_and_never_named(readings: Any):
    """A pool of a thousand makes six series."""
    async with WorkerPool(Site, size=3, name="crew", restart_delay=60) as pool:
        await ended(await pool.submit(Site.do, RestartWorker()))
        await asyncio.sleep(1)

        states = readings.series(STATES, "pool.name", "worker.state")

        assert states == {
            ("crew", "starting"): 0,
            ("crew", "up"): 2,
            ("crew", "restarting"): 1,
            ("crew", "parked"): 0,
            ("crew", "stopping"): 0,
            ("crew", "stopped"): 0,
        }


async def test_a_pool_that_is_over_is_not_shown(readings: Any):
    """Nor is one that was left alone."""
    pool = WorkerPool(Site, size=1, name="crew")
    async with pool:
        pass
    alone = WorkerPool(Site, size=1, name="alone")
    await alone.start()
    await alone.kill()
    del alone
    gc.collect()

    assert readings.series(STATES, "pool.name", "worker.state") == {}
    assert pool.snapshot()["state"] == "stopped"


async def test_a_pool_without_telemetry_is_not_shown(readings: Any, told: Any):
    """Neither in metrics nor in log events."""
    async with WorkerPool(Site, size=1, telemetry=False) as pool:
        await ended(await pool.submit(Site.do, OSError()))

        assert readings.points(QUEUED) == []
        assert readings.points(DROPPED) == []
        assert told.names() == []


async def test_jobs_that_are_given_up_are_counted_by_reason(readings: Any):
    """With what they called and the class of the failure."""
    pool = WorkerPool(Site, size=1, name="crew")
    await pool.start()
    await ended(*[await pool.submit(Site.do, OSError("secret")) for _ in range(2)])
    waiting = [await pool.submit(Site.do, seconds=9) for _ in range(2)]
    await asyncio.sleep(1)
    await pool.kill()
    await ended(*waiting)

    dropped = readings.series(DROPPED, "pool.name", "operation", "reason", "error.type")

    assert dropped == {
        ("crew", "Site.do", "failed", "OSError"): 2,
        ("crew", "Site.do", "stopped", "PoolStoppedError"): 2,
    }


async def test_the_time_in_line_is_measured_as_a_wait(readings: Any):
    """And is part of the duration of the call."""
    async with WorkerPool(Site, size=1, name="crew") as pool:
        await ended(*[await pool.submit(Site.do, seconds=5) for _ in range(2)])

    assert readings.series("penstock.wait.duration", "policy.name", "stage") == {
        ("crew", "queue"): (1, 5.0)
    }
    assert readings.series("penstock.call.duration", "policy.name") == {"crew": (2, 15.0)}


async def test_what_becomes_of_workers_is_told(told: Any):
    """From one state to the next, with the reason."""
    async with WorkerPool(Site, size=1, name="crew") as pool:
        await ended(await pool.submit(Site.do, RestartWorker("stale")))
        await asyncio.sleep(60)

    changes = [
        (facts["penstock.state.old"], facts["penstock.state.new"])
        for record in told.records("penstock.worker.state_changed")
        for facts in [record.log_record.attributes]
    ]
    assert changes[0][1] == "up"
    assert ("up", "restarting") in changes
    assert changes[-1][1] == "stopped"
    first = told.records("penstock.worker.state_changed")[0].log_record
    assert first.attributes["penstock.resource.name"] == "worker-0"
    assert first.attributes["penstock.pool.name"] == "crew"


async def test_a_parked_worker_is_a_warning(told: Any):
    """Somebody has to look."""
    restarts = [RestartWorker() for _ in range(2)]
    async with WorkerPool(Site, size=2, name="crew", max_restarts=1, pick="primary_backup") as pool:
        for restart in restarts:
            await ended(await pool.submit(Site.do, restart))
            await asyncio.sleep(1)

    parked = [
        record.log_record.severity_number
        for record in told.records("penstock.worker.state_changed")
        if record.log_record.attributes["penstock.state.new"] == "parked"
    ]
    assert parked == [SeverityNumber.WARN]


async def test_a_pause_and_its_end_are_told(told: Any):
    """With how long it lasts and what for, cut off where that is long."""
    async with WorkerPool(Site, size=1, name="crew") as pool:
        await ended(await pool.submit(Site.do, [TripBreaker("x" * 900)]))

    paused = told.only("workers.paused")
    assert paused["resource.seconds"] == 10
    assert paused["reason"] == "x" * 197 + "..."
    assert told.only("workers.resumed")["pool.name"] == "crew"
    (record,) = told.records("penstock.workers.paused")
    assert record.log_record.severity_number is SeverityNumber.WARN


async def test_the_end_of_a_pool_is_told_once(told: Any):
    """By itself it is a warning, with what it has stopped for."""
    pool = WorkerPool(Site, size=1, name="crew", escalation=Escalation(trips=1, failures=1))
    await pool.start()
    await ended(await pool.submit(Site.do, OSError("secret")))
    await asyncio.sleep(1)
    await pool.kill()

    stopped = told.only("workers.stopped")
    assert stopped["error.type"] == "OSError"
    assert "secret" not in str(stopped)
    (record,) = told.records("penstock.workers.stopped")
    assert record.log_record.severity_number is SeverityNumber.WARN


async def test_an_end_that_was_asked_for_is_no_warning(told: Any):
    """It has no error type either."""
    async with WorkerPool(Site, size=1, name="crew"):
        pass

    assert "error.type" not in told.only("workers.stopped")
    (record,) = told.records("penstock.workers.stopped")
    assert record.log_record.severity_number is SeverityNumber.INFO


async def test_a_job_that_is_given_up_is_told(told: Any):
    """Without its arguments and the text of its failure."""
    pool = WorkerPool(Site, size=1, name="crew")
    await pool.start()
    await ended(await pool.submit(Site.do, StopPool("secret")))
    await pool.kill()

    dropped = told.only("job.dropped")
    assert (dropped["operation"], dropped["reason"], dropped["error.type"]) == (
        "Site.do",
        "stopped",
        "StopPool",
    )
    assert "secret" not in str(dropped)
