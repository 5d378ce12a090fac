"""Jobs that are given up: everybody who wants to know is told once, and nothing is told in vain."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from penstock import (
    ConfigError,
    Policy,
    PoolStoppedError,
    SkipTask,
    StopPool,
    WorkerPool,
    clock,
)
from penstock.events import JobDropped
from penstock.testing import EventLog
from penstock.workers.events import Dropped

pytestmark = pytest.mark.virtual_time


class Site:
    """A worker whose jobs do what their argument says."""

    async def do(self, what: object = None, seconds: float = 0) -> object:
        """Raise an exception, or return anything else."""
        if seconds:
            await asyncio.sleep(seconds)
        if isinstance(what, BaseException):
            raise what
        return what


def secret() -> ConnectionError:
    """Return a failure whose text nobody may see."""
    return ConnectionError("secret")


async def ended(*jobs: Any) -> list[Any]:
    """Wait until all have ended; return results and failures."""
    return await asyncio.gather(*jobs, return_exceptions=True)


async def test_the_hook_is_told_of_a_failed_job_with_all_that_it_was():
    """What it called with what, why it was given up, and the failure itself."""
    letters: list[Dropped] = []
    failure = secret()
    async with WorkerPool(Site, size=1, name="crew", on_drop=letters.append) as pool:
        await asyncio.sleep(3)
        await ended(await pool.submit(Site.do, failure, seconds=2))

    (letter,) = letters
    assert (letter.policy, letter.operation, letter.reason) == ("crew", "Site.do", "failed")
    assert letter.failure is failure
    assert (letter.args, letter.kwargs) == ((failure,), {"seconds": 2})
    assert letter.at == clock.now()
    assert "secret" not in repr(letter)


async def test_an_async_hook_is_told_as_well_and_waited_for_at_the_end():
    """What is put aside at the very end is put aside."""
    stored: list[str] = []

    async def store(letter: Dropped) -> None:
        await asyncio.sleep(1)
        stored.append(letter.reason)

    async with WorkerPool(Site, size=1, on_drop=store) as pool:
        job = await pool.submit(Site.do, secret())
        await ended(job)

    assert stored == ["failed"]


async def test_a_hook_that_hangs_holds_up_no_end_for_longer_than_a_stop_may_take():
    """Ten seconds unless it was set."""

    async def hang(letter: Dropped) -> None:
        await asyncio.sleep(3600)

    async with WorkerPool(Site, size=1, on_drop=hang, stop_timeout=5) as pool:
        await ended(await pool.submit(Site.do, secret()))
        began = clock.now()

    assert clock.now() - began == 5


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_hook_that_raises_changes_nothing_and_is_reported_once(
    is_async: bool, caplog: pytest.LogCaptureFixture
):
    """Whoever awaits the jobs gets their own failures."""

    def fail(letter: Dropped) -> None:
        raise KeyError

    async def fail_later(letter: Dropped) -> None:
        raise KeyError

    async with WorkerPool(Site, size=1, on_drop=fail_later if is_async else fail) as pool:
        jobs = [await pool.submit(Site.do, secret()) for _ in range(3)]
        results = await ended(*jobs)

    assert [type(result) for result in results] == [ConnectionError] * 3
    reports = [r for r in caplog.records if "on_drop raised" in r.getMessage()]
    assert len(reports) == 1


async def test_the_hook_may_call_back_in():
    """What was given up can be handed in again."""
    pools: list[WorkerPool[Site]] = []
    results: list[object] = []

    async def again(letter: Dropped) -> None:
        results.append(await pools[0].workers.do("instead"))

    async with WorkerPool(Site, size=1, on_drop=again) as pool:
        pools.append(pool)
        await ended(await pool.submit(Site.do, secret()))
        await asyncio.sleep(1)

    assert results == ["instead"]


async def test_a_hook_sees_a_settled_pool():
    """The job is over and counted when it is told."""
    seen: list[tuple[int, int]] = []
    pools: list[WorkerPool[Site]] = []

    def look(letter: Dropped) -> None:
        stats = pools[0].stats()
        seen.append((stats.running, stats.failed))

    async with WorkerPool(Site, size=1, on_drop=look) as pool:
        pools.append(pool)
        await ended(await pool.submit(Site.do, secret()))

    assert seen == [(0, 1)]


async def test_a_line_of_the_log_says_what_was_given_up_and_why(caplog: pytest.LogCaptureFixture):
    """With the class of the failure and nothing of its text."""
    async with WorkerPool(Site, size=1, name="crew") as pool:
        await ended(await pool.submit(Site.do, secret()), await pool.submit(Site.do, SkipTask()))

    lines = [r for r in caplog.records if r.name == "penstock.workers"]
    assert [(r.levelno, r.getMessage()) for r in lines] == [
        (logging.WARNING, "job 'Site.do' of pool 'crew' was given up: failed (ConnectionError)"),
        (logging.WARNING, "job 'Site.do' of pool 'crew' was given up: skipped (SkipTask)"),
    ]
    assert "secret" not in caplog.text


async def test_observers_are_told_without_failure_and_arguments():
    """Their events may go anywhere."""
    log = EventLog()
    async with WorkerPool(Site, size=1, observers=[log]) as pool:
        await ended(await pool.submit(Site.do, secret()))

    (event,) = (event for event in log if isinstance(event, JobDropped))
    assert type(event) is JobDropped
    assert (event.operation, event.reason, event.error_type) == (
        "Site.do",
        "failed",
        "ConnectionError",
    )
    assert "secret" not in repr(log.events)


async def test_a_killed_pool_tells_of_every_job_that_was_left(caplog: pytest.LogCaptureFixture):
    """Those under way too; in the log they share a line."""
    letters: list[Dropped] = []
    pool: WorkerPool[Site] = WorkerPool(Site, size=1, name="crew", on_drop=letters.append)
    await pool.start()
    jobs = [await pool.submit(Site.do, number, seconds=9) for number in range(5)]
    await asyncio.sleep(1)

    await pool.kill()

    assert [type(result) for result in await ended(*jobs)] == [PoolStoppedError] * 5
    assert {letter.reason for letter in letters} == {"stopped"}
    assert sorted(letter.args for letter in letters) == [(n,) for n in range(5)]
    lines = [r.getMessage() for r in caplog.records if r.name == "penstock.workers"]
    assert len(lines) <= 2
    assert all("jobs of pool 'crew' were given up: stopped" in line for line in lines)
    assert pool.stats().dropped["stopped"] == 5


async def test_a_stop_whose_time_is_up_tells_of_what_is_left():
    """Jobs that ended before are not among them."""
    letters: list[Dropped] = []
    pool: WorkerPool[Site] = WorkerPool(Site, size=1, on_drop=letters.append)
    await pool.start()
    jobs = [await pool.submit(Site.do, number, seconds=2) for number in range(4)]

    await pool.stop(timeout=5)

    assert (await ended(*jobs))[:2] == [0, 1]
    assert sorted(letter.args for letter in letters) == [(2,), (3,)]


async def test_a_job_that_is_cancelled_is_not_given_up():
    """In line, under way, and as a direct call: its owner did not want it any more."""
    letters: list[Dropped] = []
    async with WorkerPool(Site, size=1, on_drop=letters.append) as pool:
        jobs = [await pool.submit(Site.do, seconds=9) for _ in range(2)]
        await asyncio.sleep(1)
        for job in reversed(jobs):
            job.cancel()
        await ended(*jobs)
        direct = asyncio.create_task(pool.workers.do(seconds=9))
        await asyncio.sleep(1)
        direct.cancel()
        await ended(direct)

    assert letters == []
    assert pool.stats().cancelled == 3


async def test_a_job_whose_input_fails_is_rejected():
    """It never had a worker; nobody counts the failure twice."""
    letters: list[Dropped] = []
    async with WorkerPool(Site, size=1, on_drop=letters.append) as pool:
        first = await pool.submit(Site.do, secret())
        second = await pool.submit(Site.do, first)
        results = await ended(first, second)

    assert results[0] is results[1]
    assert [letter.reason for letter in letters] == ["failed", "rejected"]


async def test_what_a_stage_refuses_is_rejected():
    """The breaker is open: no worker was asked."""
    letters: list[Dropped] = []
    policy = Policy("p").with_breaker(failures=1, recover_after=60)
    async with WorkerPool(Site, size=1, policy=policy, on_drop=letters.append) as pool:
        await ended(*[await pool.submit(Site.do, secret()) for _ in range(2)])

    assert [(letter.reason, letter.error_type) for letter in letters] == [
        ("failed", "ConnectionError"),
        ("rejected", "CircuitOpenError"),
    ]


async def test_a_failure_reaches_only_its_own_job():
    """Of five with two that fail there are three results and two original errors."""
    failures = [secret(), ValueError("second")]
    async with WorkerPool(Site, size=2) as pool:
        jobs = [await pool.submit(Site.do, what) for what in (1, failures[0], 3, failures[1], 5)]
        results = await ended(*jobs)

    assert results == [1, failures[0], 3, failures[1], 5]
    assert (pool.stats().done, pool.stats().failed) == (3, 2)


async def test_a_job_stopped_by_its_own_request_is_among_those_stopped():
    """Its failure is the signal."""
    letters: list[Dropped] = []
    pool: WorkerPool[Site] = WorkerPool(Site, size=1, on_drop=letters.append)
    await pool.start()
    await ended(await pool.submit(Site.do, StopPool()))
    with pytest.raises(PoolStoppedError):
        await pool.stop()

    assert [(letter.reason, letter.error_type) for letter in letters] == [("stopped", "StopPool")]


def test_a_hook_that_cannot_be_called_is_refused():
    """When the pool is built."""
    with pytest.raises(ConfigError, match="'on_drop'"):
        WorkerPool(Site, on_drop="log")
