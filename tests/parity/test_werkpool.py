"""What werkpool does, done with a Policy or a WorkerPool (rows W1 to W12 of docs/parity.md)."""

from __future__ import annotations

import asyncio

import pytest

from penstock import CallTimeoutError, ConfigError, Policy, PoolStoppedError, WorkerPool
from penstock.testing import scripted, takes

pytestmark = pytest.mark.virtual_time


def now() -> float:
    """Return the second of the running loop."""
    return asyncio.get_running_loop().time()


def most_in_any_window(times: list[float], seconds: float) -> int:
    """Return the most starts in any half-open window of so many seconds."""
    return max(sum(begin <= at < begin + seconds for at in times) for begin in times)


async def test_w1_at_most_size_operations_run_at_once() -> None:
    """Of nine calls no more than three are ever under way, and all are made."""
    policy = Policy("pool").with_concurrency(3)
    work = scripted(then=takes(1, "done"))

    results = await asyncio.gather(*(policy.call(work) for _ in range(9)))

    assert results == ["done"] * 9
    assert work.most_in_flight == 3
    assert now() == 3


@pytest.mark.parametrize("size", [0, -1, 2.5, True, float("nan"), "3", None])
async def test_w1_a_size_that_runs_nothing_is_refused(size: object) -> None:
    """A pool of no size would never run anything; the error names field and value."""
    with pytest.raises(ConfigError, match=r"concurrency: 'limit' must be a whole number") as caught:
        Policy("pool").with_concurrency(size)  # type: ignore[arg-type]

    assert repr(size) in str(caught.value)


@pytest.mark.parametrize("window", [0.5, 1.0, 2.5, 7.0])
async def test_w2_starts_in_any_window_stay_within_the_rate(window: float) -> None:
    """Over any window of T seconds at most burst + rate * T starts, after idling too."""
    policy = Policy("pool").with_rate(4, burst=2)
    work = scripted(then="done")

    await asyncio.gather(*(policy.call(work) for _ in range(30)))
    await asyncio.sleep(100)
    await asyncio.gather(*(policy.call(work) for _ in range(30)))

    assert most_in_any_window(work.times, window) <= 2 + 4 * window


async def test_w2_a_rate_below_one_is_kept() -> None:
    """0.05 per second is one start in twenty seconds."""
    policy = Policy("pool").with_rate(0.05)
    work = scripted(then="done")

    await asyncio.gather(*(policy.call(work) for _ in range(3)))

    assert work.times == [0, 20, 40]


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), "fast", True])
async def test_w2_a_rate_that_means_nothing_is_refused(rate: object) -> None:
    """Zero is no word for "unlimited"."""
    with pytest.raises(ConfigError, match="rate_limit: 'rate' must be"):
        Policy("pool").with_rate(rate)  # type: ignore[arg-type]


async def test_w3_with_both_neither_bound_is_exceeded() -> None:
    """Five at once and ten a second, whichever is the tighter at the moment."""
    policy = Policy("pool").with_rate(10).with_concurrency(5)
    work = scripted(then=takes(0.7, "done"))

    await asyncio.gather(*(policy.call(work) for _ in range(40)))

    assert work.most_in_flight == 5
    assert most_in_any_window(work.times, 1.0) <= 10


async def test_w4_with_neither_all_run_at_once() -> None:
    """A policy without stages bounds nothing."""
    policy = Policy("pool")
    work = scripted(then=takes(1, "done"))

    await asyncio.gather(*(policy.call(work) for _ in range(50)))

    assert work.most_in_flight == 50


async def test_w5_submitting_runs_nothing_and_starts_keep_their_order() -> None:
    """A task is made at once; calls start in the order in which they were submitted."""
    policy = Policy("pool").with_concurrency(1)
    started: list[int] = []

    async def work(number: int) -> int:
        started.append(number)
        await asyncio.sleep(1)
        return number * 10

    futures = [asyncio.create_task(policy.call(work, number)) for number in range(4)]
    started_on_submission = list(started)
    results = [await future for future in futures]

    assert started_on_submission == []
    assert started == [0, 1, 2, 3]
    assert results == [0, 10, 20, 30]


async def test_w6_the_timeout_holds_for_each_attempt() -> None:
    """Five seconds of work, a second per attempt, two attempts: over after two and the pause."""
    policy = Policy("pool").with_retry(attempts=2, wait=0.5).with_timeout(1)
    work = scripted(then=takes(5, "late"))

    with pytest.raises(CallTimeoutError, match=r"attempt 2 timed out after 1 s"):
        await policy.call(work)

    assert now() == 2.5
    assert work.times == [0, 1.5]


@pytest.mark.parametrize("seconds", [0, -1, None, float("nan")])
async def test_w6_a_timeout_that_means_nothing_is_refused(seconds: object) -> None:
    """Neither "none" nor "at once" is spelled as a number."""
    with pytest.raises(ConfigError, match="timeout: 'seconds' must be"):
        Policy("pool").with_timeout(seconds)  # type: ignore[arg-type]


@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_w7_n_retries_are_n_plus_1_attempts(retries: int) -> None:
    """``attempts`` counts calls, so n retries are spelled attempts=n + 1."""
    policy = Policy("pool").with_retry(attempts=retries + 1, wait=0)
    work = scripted(then=ConnectionError)

    with pytest.raises(ConnectionError):
        await policy.call(work)

    assert len(work.calls) == retries + 1


async def test_w8_an_error_that_is_not_listed_is_raised_after_one_attempt() -> None:
    """With ``retry_on`` only what is listed is tried again."""
    policy = Policy("pool").with_retry(attempts=5, wait=0, retry_on=ConnectionError)
    work = scripted(ConnectionError, KeyError("not listed"))

    with pytest.raises(KeyError, match="not listed"):
        await policy.call(work)

    assert len(work.calls) == 2


async def test_w9_back_off_is_asked_with_1_2_3_and_slept() -> None:
    """A callable of the failed attempt, from 1; the slot is free while it is slept."""
    asked: list[int] = []

    def backoff(attempt: int) -> float:
        asked.append(attempt)
        return 10.0 * attempt

    policy = Policy("pool").with_retry(attempts=4, wait=backoff).with_concurrency(1)
    work = scripted(ConnectionError, ConnectionError, ConnectionError, "done")
    other = scripted("meanwhile")

    call = asyncio.create_task(policy.call(work))
    await asyncio.sleep(5)
    meanwhile = await policy.call(other)
    result = await call

    assert (result, meanwhile) == ("done", "meanwhile")
    assert asked == [1, 2, 3]
    assert work.times == [0, 10, 30, 60]
    assert other.times == [5]


async def test_w10_all_accepted_work_is_finished_and_later_work_refused() -> None:
    """A task group drains what it took, errors kept apart, and then takes nothing more."""
    policy = Policy("pool").with_concurrency(2).with_timeout(60)
    work = scripted(then=takes(3, "done"))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(policy.call(work)) for _ in range(6)]

    assert [task.result() for task in tasks] == ["done"] * 6
    late = policy.call(work)
    with pytest.raises(RuntimeError, match="is finished"):
        group.create_task(late)
    late.close()


async def test_w11_after_a_kill_nothing_keeps_running() -> None:
    """Cancelling a batch stops what runs, drops what waits and frees every slot."""
    policy = Policy("pool").with_concurrency(2)
    ended: list[str] = []

    async def work(number: int) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(f"{number} ended")

    batch = asyncio.create_task(policy.gather(work, range(10)))
    await asyncio.sleep(1)
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch

    assert ended == ["0 ended", "1 ended"]
    assert policy.snapshot()["stages"][0]["in_flight"] == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_w12_leaving_the_block_waits_for_work() -> None:
    """The end of a task group is the end of its work, whatever its body did."""
    policy = Policy("pool").with_rate(1)
    work = scripted(then=takes(2, "done"))

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(policy.call(work))

    assert work.times == [0, 1, 2]
    assert now() == 4


# With a pool that has a life of its own


class Anything:
    """A worker that does what it is given: werkpool's tasks are functions without arguments."""

    def __init__(self) -> None:
        self.done = 0

    async def do(self, number: int, seconds: float = 1.0) -> int:
        """Take a while."""
        await asyncio.sleep(seconds)
        self.done += 1
        return number * 10


async def test_w1_workers_bound_what_runs_at_once() -> None:
    """As many at once as there are workers, times the calls that each is given."""
    work = scripted(then=takes(1, "done"))

    async def visit(_worker: Anything) -> object:
        return await work()

    async with WorkerPool(Anything, size=2, per_worker=2) as pool:
        await asyncio.gather(*[await pool.submit(visit) for _ in range(12)])

    assert work.most_in_flight == 4
    assert now() == 3
    with pytest.raises(ConfigError, match="workers: 'size' must be a whole number"):
        WorkerPool(Anything, size=0)


async def test_w2_a_rate_for_all_workers() -> None:
    """0.5 per second is one start in two seconds, however many workers there are."""
    policy = Policy("pool").with_rate(0.5)
    work = scripted(then="done")

    async def visit(_worker: Anything) -> object:
        return await work()

    async with WorkerPool(Anything, size=5, policy=policy) as pool:
        await asyncio.gather(*[await pool.submit(visit) for _ in range(4)])

    assert work.times == [0, 2, 4, 6]


async def test_w5_a_job_is_submitted_without_running() -> None:
    """``submit_nowait`` does not even wait; starts keep their order, results match."""
    started: list[int] = []

    async def work(_worker: Anything, number: int) -> int:
        started.append(number)
        await asyncio.sleep(1)
        return number * 10

    async with WorkerPool(Anything, size=1) as pool:
        jobs = [pool.submit_nowait(work, number) for number in range(4)]
        started_on_submission = list(started)
        results = [await job for job in jobs]

    assert started_on_submission == []
    assert started == [0, 1, 2, 3]
    assert results == [0, 10, 20, 30]


async def test_w5_without_a_loop_or_a_start_nothing_is_taken() -> None:
    """The error says what to do."""
    pool = WorkerPool(Anything)

    with pytest.raises(PoolStoppedError, match="async with"):
        await pool.submit("do", 1)


async def test_w10_a_stop_finishes_what_was_accepted() -> None:
    """Queued and running, failed ones too; later submits are refused."""

    async def fail(_worker: Anything) -> None:
        raise ConnectionError

    async with WorkerPool(Anything, size=2) as pool:
        jobs = [await pool.submit("do", number) for number in range(5)]
        failed = await pool.submit(fail)
        stopping = asyncio.create_task(pool.stop())
        await asyncio.sleep(0.5)
        with pytest.raises(PoolStoppedError):
            await pool.submit("do", 99)
        await stopping

    assert [job.result() for job in jobs] == [0, 10, 20, 30, 40]
    assert isinstance(failed.exception(), ConnectionError)
    assert now() == 3


async def test_w11_a_kill_stops_what_runs_and_ends_what_waits() -> None:
    """Operations end with their ``finally``; nobody waits for a job for ever."""
    ended: list[int] = []

    async def work(_worker: Anything, number: int) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(number)

    async with WorkerPool(Anything, size=2) as pool:
        jobs = [await pool.submit(work, number) for number in range(5)]
        await asyncio.sleep(1)
        await pool.kill()
        assert all(job.done() for job in jobs)
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)

    assert sorted(ended) == [0, 1]
    assert not any(outcome is None for outcome in outcomes)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert now() == 1


async def test_w12_leaving_the_block_of_a_pool_waits_for_work() -> None:
    """Also when its body has raised: what was accepted is finished."""
    jobs: list[asyncio.Future[int]] = []

    async def body() -> None:
        async with WorkerPool(Anything, size=1) as pool:
            jobs.extend([await pool.submit("do", number) for number in range(3)])
            raise KeyError

    with pytest.raises(KeyError):
        await body()

    assert [job.result() for job in jobs] == [0, 10, 20]
    assert now() == 3
