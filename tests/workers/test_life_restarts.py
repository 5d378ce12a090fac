"""How workers are started anew: after so many jobs, when asked to, when they die."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock import (
    ConfigError,
    NoResourceError,
    Policy,
    PoolStoppedError,
    RestartWorker,
    WorkerDiedError,
    clock,
)
from penstock.workers import WorkerPool
from penstock.workers.slot import Slot, SlotState

pytestmark = pytest.mark.virtual_time


class Counter:
    """A worker that counts its lives and its calls, and may fail to start."""

    def __init__(self, log: list[str], start_raises: list[Any] | None = None) -> None:
        self.log = log
        self.start_raises = start_raises if start_raises is not None else []
        self.calls = 0

    async def start(self, index: int) -> None:
        self.index = index
        self.log.append(f"start {index} at {clock.now():g}")
        if self.start_raises and (failure := self.start_raises.pop(0)) is not None:
            raise failure

    async def stop(self) -> None:
        self.log.append(f"stop {self.index} at {clock.now():g}")

    async def work(self, seconds: float = 0.0, failure: BaseException | None = None) -> int:
        self.calls += 1
        await asyncio.sleep(seconds)
        if failure is not None:
            raise failure
        return self.calls


def slot_of(pool: WorkerPool[Any], index: int = 0) -> Slot:
    """Return the place of a worker."""
    assert pool._run is not None
    return pool._run.slots[f"worker-{index}"]


def kill(pool: WorkerPool[Any], index: int = 0) -> None:
    """Let a worker die as one does that is killed from outside."""
    slot = slot_of(pool, index)
    assert pool._run is not None
    assert slot.engine is not None
    pool._run.supervisor.died(slot, slot.engine, "killed")


async def test_restart_every_n_jobs_is_before_the_next() -> None:
    """T13: with N = 3, nine tasks restart the worker after the third and the sixth."""
    log: list[str] = []
    async with WorkerPool(Counter, log, size=1, restart_every=3) as pool:
        jobs = [await pool.submit("work", 1) for _ in range(9)]
        calls = [await job for job in jobs]
        await asyncio.sleep(100)
        starts = [line for line in log if line.startswith("start")]

        again = await pool.workers.work()

    assert calls == [1, 2, 3] * 3
    assert starts == ["start 0 at 0", "start 0 at 3", "start 0 at 6"]
    assert again == 1, "the tenth has a new worker"


async def test_restart_every_counts_calls_that_overlap() -> None:
    """A worker with several calls at a time restarts when those under way have ended."""
    log: list[str] = []
    async with WorkerPool(Counter, log, size=1, per_worker=4, restart_every=2) as pool:
        jobs = [await pool.submit("work", seconds) for seconds in (1, 2, 5, 1, 1, 1)]

        await asyncio.gather(*jobs)

    assert log[:4] == ["start 0 at 0", "stop 0 at 5", "start 0 at 5", "stop 0 at 6"]


async def test_a_worker_that_is_due_restarts_for_a_retry_too() -> None:
    """A call that waits inside its policy is as good a reason as one in line."""
    policy = Policy("again").with_retry(attempts=3, wait=0, accept=lambda calls: calls == 1)
    log: list[str] = []
    async with WorkerPool(Counter, log, size=1, restart_every=2, policy=policy) as pool:
        await pool.workers.work()
        calls = await pool.workers.work()

    assert calls == 1


async def test_failed_jobs_do_not_count_towards_restart_every() -> None:
    """Only completed jobs wear a worker out."""
    log: list[str] = []
    async with WorkerPool(Counter, log, size=1, restart_every=2) as pool:
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                await pool.workers.work(0, ZeroDivisionError())

    assert len(log) == 2


async def test_restart_worker_restarts_it_and_fails_its_job() -> None:
    """A method may ask for a new start; others of its calls end first."""
    log: list[str] = []
    async with WorkerPool(Counter, log, size=1, per_worker=2) as pool:
        slow = await pool.submit("work", 5)
        with pytest.raises(RestartWorker):
            await pool.workers.work(1, RestartWorker("stale"))
        later = await pool.workers.work()

    assert slow.result() == 2
    assert later == 1
    assert log[:3] == ["start 0 at 0", "stop 0 at 5", "start 0 at 5"]


async def test_a_retried_job_finds_the_restarted_worker() -> None:
    """With a retry in the policy nobody notices the restart."""
    policy = Policy("again").with_retry(attempts=2, wait=0)
    script: list[BaseException | None] = [RestartWorker(), None]

    class Fickle(Counter):
        async def work(self, seconds: float = 0.0, failure: BaseException | None = None) -> int:
            return await super().work(seconds, script.pop(0))

    async with WorkerPool(Fickle, [], size=1, policy=policy) as pool:
        calls = await pool.workers.work()

    assert calls == 1


async def test_two_restarts_asked_for_in_one_step_are_one() -> None:
    """A worker that restarts already is not restarted for it once more."""
    log: list[str] = []
    async with WorkerPool(Counter, log, size=1, per_worker=2) as pool:
        jobs = [await pool.submit("work", 1, RestartWorker()) for _ in range(2)]
        await asyncio.gather(*jobs, return_exceptions=True)
        await pool.workers.work()

    assert len([line for line in log if line.startswith("start")]) == 2


async def test_sys_exit_restarts_the_worker_and_not_the_program() -> None:
    """Rule 24: the library never ends the process."""
    async with WorkerPool(Counter, [], size=1) as pool:
        with pytest.raises(WorkerDiedError, match=r"worker-0 was ended by sys\.exit"):
            await pool.workers.work(0, SystemExit(3))

        assert await pool.workers.work() == 1


async def test_a_dead_worker_is_replaced_after_growing_delays() -> None:
    """Rule 22: the first restart costs no time, the next ones more and more."""
    log: list[str] = []
    async with WorkerPool(Counter, log, size=1, restart_delay=(0, 1, 5)) as pool:
        for _ in range(4):
            kill(pool)
            await pool.workers.work()

    assert [line for line in log if line.startswith("start")] == [
        f"start 0 at {second}" for second in (0, 0, 1, 6, 11)
    ]


async def test_jobs_of_a_dead_worker_are_run_again_on_another() -> None:
    """In the pool's own loop a job is displaced; its caller does not notice."""
    async with WorkerPool(Counter, [], size=2) as pool:
        job = await pool.submit("work", 5)
        await asyncio.sleep(1)
        kill(pool, 0)

        assert await job == 1
        assert clock.now() == 6


async def test_a_dead_worker_is_parked_after_too_many_restarts_and_the_pool_goes_on() -> None:
    """Rule 22: the others serve, and health counts one less."""
    async with WorkerPool(Counter, [], size=2, max_restarts=2) as pool:
        for _ in range(3):
            kill(pool, 0)
            await asyncio.sleep(5)
        assert pool._run is not None

        assert slot_of(pool, 0).state is SlotState.PARKED
        assert pool._run.workers.health().ready == 1
        assert await pool.workers.work() == 1


async def test_waiting_jobs_fail_when_the_last_worker_is_parked() -> None:
    """Rule 22: those in line, and those that wait inside their policy, get an error."""
    script: list[Any] = [None]
    policy = Policy("again").with_retry(attempts=2, wait=0, retry_on=OSError)
    async with WorkerPool(
        Counter, [], script, size=1, per_worker=2, max_restarts=2, policy=policy, queue=None
    ) as pool:
        script += [OSError()] * 9
        retried = await pool.submit("work", 1, OSError())
        await asyncio.sleep(0.5)
        kill(pool)
        queued = [await pool.submit("work") for _ in range(3)]

        results = await asyncio.gather(retried, *queued, return_exceptions=True)

        assert [type(result) for result in results] == [NoResourceError] * 4
        assert "1 disabled" in str(results[0])
        script.clear()
        await pool.restart()
        assert await pool.workers.work() == 1


async def test_a_worker_that_dies_while_it_restarts_is_replaced() -> None:
    """Whoever waits for its calls to end waits in vain."""
    log: list[str] = []
    async with WorkerPool(Counter, log, size=1, per_worker=2) as pool:
        job = await pool.submit("work", 50)
        with pytest.raises(RestartWorker):
            await pool.workers.work(1, RestartWorker())
        assert slot_of(pool).state is SlotState.RESTARTING

        kill(pool)

        assert await job == 1
        assert await pool.workers.work() == 2
    assert clock.now() < 60


async def test_a_worker_that_died_when_its_start_was_over_does_not_come_up() -> None:
    """A death that is told before the start is noticed to be over is no success."""
    deaths: list[Any] = []

    class Brief(Counter):
        async def start(self, index: int) -> None:
            await super().start(index)
            slot = slot_of(pool)
            if len(self.log) == 1 and slot.passing is not None and pool._run is not None:
                deaths.append(slot.passing)
                pool._run.supervisor.died(slot, slot.passing, "killed")

    log: list[str] = []
    pool = WorkerPool(Brief, log, size=1)
    async with pool:
        calls = await pool.workers.work()

    assert (len(deaths), calls) == (1, 1)
    assert [line.split(" at")[0] for line in log] == ["start 0", "start 0", "stop 0"]


async def test_an_engine_of_a_former_life_moves_nothing() -> None:
    """News of a death that was replaced already is old."""
    log: list[str] = []
    async with WorkerPool(Counter, log, size=1) as pool:
        slot = slot_of(pool)
        old = slot.engine
        kill(pool)
        await pool.workers.work()
        assert pool._run is not None
        assert old is not None

        pool._run.supervisor.died(slot, old, "killed")

        assert slot.state is SlotState.UP
    assert len([line for line in log if line.startswith("start")]) == 2


@pytest.mark.parametrize("second", [0.5, 1.0, 1.5, 2.5, 6.5])
async def test_stop_at_any_time_of_a_restart_stops_the_worker_once(second: float) -> None:
    """While its calls end, while it stops, during the delay and while it starts."""
    log: list[str] = []

    class Slow(Counter):
        async def start(self, index: int) -> None:
            await super().start(index)
            if len(self.log) > 1:
                await asyncio.sleep(2)

        async def stop(self) -> None:
            await asyncio.sleep(1)
            await super().stop()

    pool = WorkerPool(Slow, log, size=1, restart_delay=(3,))
    await pool.start()
    await asyncio.gather(pool.workers.work(0, RestartWorker()), return_exceptions=True)
    await asyncio.sleep(second)
    await pool.stop()

    stops = [line for line in log if line.startswith("stop")]
    assert len(stops) == (2 if second > 5 else 1)
    assert slot_of(pool).state is SlotState.STOPPED
    assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []


async def test_restart_worker_while_the_pool_drains_does_not_keep_it() -> None:
    """The last job may ask for a restart that nobody needs any more."""
    pool = WorkerPool(Counter, [], size=1, restart_delay=(100,))
    await pool.start()
    jobs = [await pool.submit("work", 1, RestartWorker()) for _ in range(2)]

    await pool.stop()

    assert [type(job.exception()) for job in jobs] == [RestartWorker] * 2
    assert clock.now() == 102, "the second job waits for the restart, and the stop for none"


async def test_a_rolling_restart_takes_one_worker_after_the_other() -> None:
    """All but one serve at any time, and the calls of that one end first."""
    log: list[str] = []
    least = 9

    class Slow(Counter):
        async def start(self, index: int) -> None:
            await super().start(index)
            await asyncio.sleep(1)

    async def watch(pool: WorkerPool[Slow]) -> None:
        nonlocal least
        while True:
            assert pool._run is not None
            least = min(least, sum(s.state is SlotState.UP for s in pool._run.slots.values()))
            await asyncio.sleep(0.1)

    async with WorkerPool(Slow, log, size=3) as pool:
        await asyncio.sleep(5)
        job = await pool.submit("work", 2)
        await asyncio.sleep(1)
        watching = asyncio.create_task(watch(pool))
        await pool.restart()
        watching.cancel()

    assert least == 2
    assert await job == 1
    assert log[3:9] == [
        "stop 0 at 8",
        "start 0 at 8",
        "stop 1 at 9",
        "start 1 at 9",
        "stop 2 at 10",
        "start 2 at 10",
    ]


async def test_a_rolling_restart_ends_at_the_first_worker_that_cannot_start() -> None:
    """A bad start must not take down one worker after the other."""
    script: list[Any] = [None, None, None]
    async with WorkerPool(Counter, [], script, size=3, max_restarts=1) as pool:
        await asyncio.sleep(1)
        script += [OSError("bad")] * 2

        with pytest.raises(OSError, match="bad"):
            await pool.restart()

        assert [slot_of(pool, i).state.value for i in range(3)] == ["parked", "up", "up"]


async def test_restart_of_one_worker_leaves_the_others_alone() -> None:
    """The id is that of snapshots and events."""
    log: list[str] = []
    async with WorkerPool(Counter, log, size=2) as pool:
        await asyncio.sleep(1)
        await pool.restart("worker-1")

    assert log[2:4] == ["stop 1 at 1", "start 1 at 1"]


async def test_restart_of_an_unknown_worker_is_a_key_error() -> None:
    """The message does not repeat what was asked for."""
    async with WorkerPool(Counter, [], size=1) as pool:
        with pytest.raises(KeyError, match="no worker of that id"):
            await pool.restart("worker-7")


async def test_a_rolling_restart_passes_by_who_has_left() -> None:
    """The pool may become smaller meanwhile."""
    log: list[str] = []

    class Slow(Counter):
        async def start(self, index: int) -> None:
            await super().start(index)
            await asyncio.sleep(1)

    async with WorkerPool(Slow, log, size=3) as pool:
        await asyncio.sleep(5)
        restarting = asyncio.create_task(pool.restart())
        await asyncio.sleep(0.5)
        await pool.resize(1)
        await restarting

    assert len([line for line in log if line.startswith("start")]) == 4


async def test_a_rolling_restart_passes_by_who_leaves_while_it_starts() -> None:
    """Its turn had come, and it was called away: the pool goes on, and so does the restart."""

    class Slow(Counter):
        async def start(self, index: int) -> None:
            await super().start(index)
            await asyncio.sleep(1)

    async with WorkerPool(Slow, [], size=2) as pool:
        await asyncio.sleep(5)
        restarting = asyncio.create_task(pool.restart())
        await asyncio.sleep(1.5)
        assert slot_of(pool, 1).state is not SlotState.UP
        await pool.resize(1)
        await restarting


async def test_restart_is_told_when_the_pool_stops_meanwhile() -> None:
    """Whoever waits for a worker that will not come is told."""
    pool = WorkerPool(Counter, [], size=2)
    await pool.start()
    await pool.submit("work", 100)
    restarting = asyncio.create_task(pool.restart())
    await asyncio.sleep(1)

    await pool.kill()

    with pytest.raises(PoolStoppedError):
        await restarting


async def test_prebuilt_workers_are_restarted_in_place() -> None:
    """T2: each keeps its own state and its place over a restart."""
    log: list[str] = []
    workers = [Counter(log), Counter(log)]

    async with WorkerPool.from_workers(workers) as pool:
        await asyncio.sleep(1)
        await asyncio.gather(pool.workers.work(1), pool.workers.work(1))
        await pool.restart()
        await asyncio.gather(pool.workers.work(1), pool.workers.work(1))

    assert [worker.index for worker in workers] == [0, 1]
    assert [worker.calls for worker in workers] == [2, 2]
    assert len([line for line in log if line.startswith("start")]) == 4
    assert (
        sorted(line[:6] for line in log if line.startswith("stop"))
        == ["stop 0"] * 2 + ["stop 1"] * 2
    )


async def test_prebuilt_workers_of_several_classes_keep_their_own_settings() -> None:
    """T2: what they are is each one's own matter."""

    class Other(Counter):
        async def work(self, seconds: float = 0.0, failure: BaseException | None = None) -> int:
            return -1

    async with WorkerPool.from_workers([Counter([]), Other([])]) as pool:
        await asyncio.sleep(1)
        results = await asyncio.gather(pool.workers.work(1), pool.workers.work(1))

    assert sorted(results) == [-1, 1]


async def test_a_pool_of_prebuilt_workers_cannot_grow_beyond_them() -> None:
    """T2: shrinking and growing again takes the same objects."""
    log: list[str] = []
    async with WorkerPool.from_workers([Counter(log), Counter(log)]) as pool:
        await asyncio.sleep(1)
        await asyncio.gather(pool.resize(1), pool.resize(2))

        with pytest.raises(ConfigError, match=r"'size' must be a whole number from 1 to 2; got 3"):
            await pool.resize(3)

    assert log[2:4] == ["stop 1 at 1", "start 1 at 1"]
