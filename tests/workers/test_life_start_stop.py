"""How the workers of a pool are started, and what is left when it has stopped."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from penstock import NoResourceError, PolicyError, PoolStoppedError, WorkerDiedError, clock
from penstock.testing import VirtualTimeLoop, run
from penstock.workers import WorkerPool
from penstock.workers.slot import SlotState

pytestmark = pytest.mark.virtual_time


class Diary:
    """A worker that writes down what becomes of it."""

    def __init__(self, log: list[str], **script: Any) -> None:
        self.log = log
        self.script = script
        self.index = -1

    async def start(self, index: int) -> None:
        self.index = index
        self.log.append(f"start {index} at {clock.now():g}")
        await asyncio.sleep(self.script.get("start_takes", 0))
        for failure in self.script.get("start_raises", ())[:1]:
            del self.script["start_raises"][0]
            if failure is not None:
                raise failure

    async def stop(self) -> None:
        self.log.append(f"stop {self.index}")
        await asyncio.sleep(self.script.get("stop_takes", 0))
        for failure in self.script.get("stop_raises", ()):
            raise failure

    async def work(self, seconds: float = 0.0) -> int:
        await asyncio.sleep(seconds)
        return self.index


SCRIPT = ("start_takes", "start_raises", "stop_takes", "stop_raises")


def pool_of(log: list[str], **options: Any) -> WorkerPool[Diary]:
    """Return a pool of diaries; four of the options are their script."""
    script = {name: options.pop(name) for name in SCRIPT if name in options}
    return WorkerPool(Diary, log, kwargs=script, **options)


def left_over() -> list[str]:
    """Return the tasks and timers that are left beside the test itself."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    tasks = [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}]
    timers = [repr(timer) for timer in loop._scheduled if not timer.cancelled()]
    return tasks + timers


async def test_each_worker_starts_once_and_stops_once() -> None:
    """T1: ``start`` is called once per worker with its place, ``stop`` once at the end."""
    log: list[str] = []

    async with pool_of(log, size=3) as pool:
        await asyncio.gather(*(pool.workers.work(1) for _ in range(9)))

    assert sorted(log) == [f"start {i} at 0" for i in range(3)] + [f"stop {i}" for i in range(3)]


async def test_starts_are_staggered_while_jobs_run_already() -> None:
    """T1: workers start one interval after the other, and the first one works meanwhile."""
    log: list[str] = []

    async with pool_of(log, size=3, start_interval=2) as pool:
        first = await pool.workers.work(1)
        now = clock.now()
        await asyncio.sleep(10)

    assert (first, now) == (0, 1)
    assert log[:3] == ["start 0 at 0", "start 1 at 2", "start 2 at 4"]


async def test_start_returns_when_the_first_is_up() -> None:
    """Slow workers do not keep the pool from beginning."""
    log: list[str] = []
    pool = pool_of(log, size=2, start_takes=5, start_interval=5)

    await pool.start()

    assert clock.now() == 5
    await pool.stop()


async def test_start_raises_what_the_last_worker_failed_with_when_all_are_parked() -> None:
    """A pool that cannot be started says why, and leaves nothing behind."""
    log: list[str] = []
    script = [OSError(str(i)) for i in range(99)]
    pool = pool_of(log, size=2, start_raises=script, max_restarts=2)

    with pytest.raises(OSError, match="5"):
        await pool.start()

    assert left_over() == []
    assert len(log) == 6, "each worker was started once, and twice again"


async def test_start_that_hangs_is_cut_and_finally_given_up() -> None:
    """However long a start takes to fail, a worker that never came up is parked in the end."""
    log: list[str] = []
    pool = pool_of(log, size=1, start_takes=1e9, start_timeout=300, max_restarts=3)

    with pytest.raises(TimeoutError, match="worker-0 did not start within 300 s"):
        await pool.start()

    assert len(log) == 4
    assert left_over() == []


@pytest.mark.parametrize("leaving", [SystemExit(3), asyncio.CancelledError()])
async def test_start_that_leaves_the_program_does_not_end_it(leaving: BaseException) -> None:
    """What a ``start`` raises to end the program, or itself, is a failed start."""
    log: list[str] = []

    async with pool_of(log, size=1, start_raises=[leaving]) as pool:
        index = await pool.workers.work()

    assert index == 0
    assert len([line for line in log if line.startswith("start")]) == 2


async def test_start_that_always_leaves_is_a_worker_that_died() -> None:
    """``start`` of the pool raises no SystemExit."""
    pool = pool_of([], size=1, start_raises=[SystemExit(i) for i in range(9)], max_restarts=1)

    with pytest.raises(WorkerDiedError, match=r"worker-0 was ended by sys\.exit"):
        await pool.start()


async def test_start_twice_is_refused() -> None:
    """A pool that runs is not started again."""
    async with pool_of([], size=1) as pool:
        with pytest.raises(PolicyError, match="has been started already"):
            await pool.start()


async def test_a_drained_pool_is_not_started_before_it_has_stopped() -> None:
    """Its workers are still there."""
    pool = pool_of([], size=1)
    await pool.start()
    await pool.drain()

    with pytest.raises(PolicyError, match="has been started already"):
        await pool.start()

    await pool.stop()


async def test_a_stopped_pool_starts_anew() -> None:
    """A pool may be used again, with new workers."""
    log: list[str] = []
    pool = pool_of(log, size=1)

    for _ in range(2):
        async with pool:
            await pool.workers.work()

    assert log == ["start 0 at 0", "stop 0"] * 2


def test_a_pool_whose_loop_was_closed_starts_anew_in_another() -> None:
    """What the first loop has left behind does not keep the second from its work."""
    log: list[str] = []
    pool = pool_of(log, size=2, start_interval=100)

    async def begin() -> None:
        await pool.start()

    async def again() -> int:
        async with pool:
            return await pool.workers.work()

    run(begin())
    index = run(again())

    assert index == 0


async def test_stop_finishes_all_jobs_first() -> None:
    """W10: all accepted work ends; later submits are refused."""
    pool = pool_of([], size=1)
    await pool.start()
    jobs = [await pool.submit("work", 1) for _ in range(5)]

    await pool.stop()

    assert [job.result() for job in jobs] == [0] * 5
    with pytest.raises(PoolStoppedError, match="it was stopped"):
        await pool.submit("work")


async def test_stop_twice_is_a_no_op() -> None:
    """C26: the second stop does nothing, and every later call is refused."""
    log: list[str] = []
    pool = pool_of(log, size=1)
    await pool.start()

    await pool.stop()
    await pool.stop()
    await pool.kill()

    assert log == ["start 0 at 0", "stop 0"]
    for late in (pool.submit("work"), pool.join(), pool.resize(2), pool.restart()):
        with pytest.raises(PoolStoppedError):
            await late
    with pytest.raises(PoolStoppedError):
        pool.pause()


async def test_stop_at_the_same_time_waits_for_the_end() -> None:
    """Whoever stops second comes back when the pool has stopped, not before."""
    pool = pool_of([], size=1, stop_takes=3)
    await pool.start()
    ended: list[float] = []

    async def stop() -> None:
        await pool.stop()
        ended.append(clock.now())

    await asyncio.gather(stop(), stop())

    assert ended == [3, 3]


async def test_stop_before_start_is_a_no_op() -> None:
    """A pool that never began has nothing to stop."""
    pool = pool_of([])

    await pool.stop()
    await pool.kill()
    assert await pool.drain()


async def test_stop_drops_what_is_left_after_its_time() -> None:
    """What is under way then is cancelled, and what waits is refused."""
    pool = pool_of([], size=1, queue=None)
    await pool.start()
    jobs = [await pool.submit("work", 10) for _ in range(3)]

    await pool.stop(timeout=15)

    assert clock.now() == 15
    assert jobs[0].result() == 0
    for job in jobs[1:]:
        with pytest.raises(PoolStoppedError):
            await job
    assert left_over() == []


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), True, "1"])
async def test_stop_refuses_a_time_that_is_none(seconds: Any) -> None:
    """The error names the field, the value and what is allowed."""
    pool = pool_of([], size=1)

    with pytest.raises(ValueError, match=r"'timeout' must be a finite number of seconds"):
        await pool.stop(timeout=seconds)
    with pytest.raises(ValueError, match=r"'timeout' must be a finite number of seconds"):
        await pool.drain(timeout=seconds)


async def test_stop_that_hangs_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    """A worker's ``stop`` has ``stop_timeout`` seconds; a log line says that it took longer."""
    pool = pool_of([], size=2, stop_takes=1e9, stop_timeout=10)
    await pool.start()

    await pool.stop()

    assert clock.now() == 10
    assert "stop raised TimeoutError" in caplog.text
    assert left_over() == []


@pytest.mark.parametrize(
    "failure", [OSError(), SystemExit(1), asyncio.CancelledError()], ids=["error", "exit", "cancel"]
)
async def test_stop_that_raises_stops_the_worker_all_the_same(
    failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a worker's ``stop`` raises is told, and keeps nobody from stopping."""
    log: list[str] = []

    async with pool_of(log, size=2, stop_raises=[failure]):
        pass

    assert f"stop raised {type(failure).__name__}" in caplog.text
    assert sorted(log)[2:] == ["stop 0", "stop 1"]


async def test_stop_while_workers_start_does_not_wait_for_them() -> None:
    """A start that nobody needs any more is given up."""
    log: list[str] = []
    pool = pool_of(log, size=2, start_interval=100)
    await pool.start()

    await pool.stop()

    assert clock.now() == 0
    assert log == ["start 0 at 0", "stop 0"]
    assert left_over() == []


async def test_stop_from_a_job_is_refused_and_not_a_deadlock() -> None:
    """A job that waits for its own end would wait for ever."""

    class Selfish:
        async def work(self, pool: WorkerPool[Selfish], how: str) -> None:
            await getattr(pool, how)()

    async with WorkerPool(Selfish, size=1) as pool:
        for how in ("stop", "drain"):
            with pytest.raises(PolicyError, match=f"{how} waits for all jobs"):
                await pool.workers.work(pool, how)


async def test_drain_takes_no_more_and_tells_whether_all_have_ended() -> None:
    """The time being up ends nothing: what is left goes on."""
    pool = pool_of([], size=1)
    await pool.start()
    jobs = [await pool.submit("work", 10) for _ in range(2)]

    early = await pool.drain(timeout=15)
    late = await pool.drain()

    assert (early, late, clock.now()) == (False, True, 20)
    assert [job.result() for job in jobs] == [0, 0]
    with pytest.raises(PoolStoppedError, match="it was drained"):
        await pool.submit("work")
    await pool.stop()


async def test_drain_lets_go_of_who_waits_for_room() -> None:
    """A producer in front of a full line is refused when the pool takes no more."""
    pool = pool_of([], size=1, queue=1)
    await pool.start()
    producers = [asyncio.create_task(pool.submit("work", 5)) for _ in range(5)]
    await asyncio.sleep(1)

    await pool.stop()
    results = await asyncio.gather(*producers, return_exceptions=True)

    assert [isinstance(result, PoolStoppedError) for result in results] == [False] * 2 + [True] * 3


async def test_drain_ends_a_pause() -> None:
    """Whoever wants all jobs done does not wait for a resume that may never come."""
    async with pool_of([], size=1) as pool:
        pool.pause()
        job = await pool.submit("work")

        await pool.drain()

        assert job.done()


async def test_leaving_with_an_error_waits_for_work() -> None:
    """W12 and T16: an error of the body drains the pool and stops the workers."""
    log: list[str] = []
    jobs: list[Any] = []

    async def use() -> None:
        async with pool_of(log, size=1) as pool:
            jobs.extend([await pool.submit("work", 1) for _ in range(3)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()

    assert [job.result() for job in jobs] == [0, 0, 0]
    assert log[-1] == "stop 0"


async def test_leaving_by_a_cancel_ends_jobs_and_stops_workers() -> None:
    """T16: whoever is cancelled does not wait for the line, and the workers are stopped."""
    log: list[str] = []
    jobs: list[Any] = []

    async def use() -> None:
        async with pool_of(log, size=1) as pool:
            jobs.extend([await pool.submit("work", 100) for _ in range(3)])
            await asyncio.sleep(1e9)

    user = asyncio.create_task(use())
    await asyncio.sleep(5)
    user.cancel()
    await asyncio.wait([user])

    assert user.cancelled()
    assert clock.now() == 5
    assert log == ["start 0 at 0", "stop 0"]
    for job in jobs:
        with pytest.raises(PoolStoppedError):
            await job
    assert left_over() == []


async def test_a_generator_that_is_closed_stops_its_pool() -> None:
    """T16: workers are stopped on every path, that of an async generator too."""
    log: list[str] = []

    async def numbers() -> Any:
        async with pool_of(log, size=1) as pool:
            while True:
                yield await pool.workers.work()

    generator = numbers()
    assert await anext(generator) == 0
    await generator.aclose()

    assert log == ["start 0 at 0", "stop 0"]


async def test_a_cancelled_stop_is_a_kill() -> None:
    """Whoever does not want to wait any longer for the line leaves nothing behind."""
    log: list[str] = []
    pool = pool_of(log, size=1)
    await pool.start()
    job = await pool.submit("work", 100)
    stopping = asyncio.create_task(pool.stop())
    await asyncio.sleep(1)

    stopping.cancel()
    await asyncio.wait([stopping])

    assert stopping.cancelled()
    with pytest.raises(PoolStoppedError):
        await job
    assert log == ["start 0 at 0", "stop 0"]
    assert left_over() == []


async def test_kill_ends_what_runs_and_what_waits() -> None:
    """W11: after a kill nothing keeps running."""
    ended: list[str] = []

    class Careful:
        async def work(self) -> None:
            try:
                await asyncio.sleep(100)
            finally:
                ended.append("cleaned up")

    pool = WorkerPool(Careful, size=1)
    await pool.start()
    jobs = [await pool.submit("work") for _ in range(2)]
    await asyncio.sleep(1)

    await pool.kill()

    assert ended == ["cleaned up"]
    assert clock.now() == 1
    assert [type(job.exception()) for job in jobs] == [PoolStoppedError] * 2
    assert left_over() == []


async def test_kill_does_not_wait_for_a_job_that_ignores_its_cancel() -> None:
    """A worker that does not let go is ended without its ``stop``."""
    log: list[str] = []

    class Stubborn(Diary):
        async def work(self, seconds: float = 0.0) -> int:
            for _ in range(3):
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    log.append("no")
            return 0

    pool = WorkerPool(Stubborn, log, size=1, stop_timeout=10)
    await pool.start()
    job = await pool.submit("work")
    await asyncio.sleep(1)

    await pool.kill()

    assert clock.now() == 11
    assert log == ["start 0 at 0", "no"]
    assert pool._run is not None
    assert [slot.state for slot in pool._run.slots.values()] == [SlotState.STOPPED]
    await asyncio.wait([job])


async def test_kill_while_the_pool_starts_ends_the_start() -> None:
    """Whoever waits for the first worker is told that there will be none."""
    log: list[str] = []
    pool = pool_of(log, size=1, start_takes=100)
    starting = asyncio.create_task(pool.start())
    await asyncio.sleep(1)

    await pool.kill()

    with pytest.raises(PoolStoppedError):
        await starting
    assert clock.now() == 1
    assert left_over() == []


async def test_kill_while_the_pool_stops_ends_the_stop() -> None:
    """Who stops does not wait for jobs that were killed."""
    pool = pool_of([], size=1)
    await pool.start()
    job = await pool.submit("work", 100)
    stopping = asyncio.create_task(pool.stop())
    await asyncio.sleep(1)

    await pool.kill()
    await stopping

    assert clock.now() == 1
    with pytest.raises(PoolStoppedError):
        await job
    assert left_over() == []


async def test_kill_from_a_job_ends_all_others() -> None:
    """A job may end its pool; it is not cancelled by that itself."""

    class Fed:
        async def up(self, pool: WorkerPool[Fed]) -> str:
            await pool.kill()
            return "still here"

        async def work(self) -> None:
            await asyncio.sleep(100)

    pool = WorkerPool(Fed, size=2)
    await pool.start()
    other = await pool.submit("work")
    await asyncio.sleep(1)

    mine = await pool.submit("up", pool)

    assert await mine == "still here"
    with pytest.raises(PoolStoppedError):
        await other


async def test_a_cancelled_start_leaves_nothing_behind() -> None:
    """The starts under way are cancelled too."""
    pool = pool_of([], size=3, start_takes=100)
    starting = asyncio.create_task(pool.start())
    await asyncio.sleep(1)

    starting.cancel()
    await asyncio.wait([starting])

    assert starting.cancelled()
    assert left_over() == []


async def test_a_start_that_swallows_its_cancel_brings_nobody_up() -> None:
    """A worker that was stopped while it started stays down, whatever its start makes of it."""
    log: list[str] = []

    class Deaf(Diary):
        async def start(self, index: int) -> None:
            self.index = index
            if index:
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    log.append("what cancel?")

    pool = WorkerPool(Deaf, log, size=2)
    await pool.start()
    await pool.stop()

    assert sorted(log) == ["stop 0", "what cancel?"]
    assert left_over() == []


async def test_a_start_whose_clean_up_hangs_keeps_the_stop_for_its_time_only() -> None:
    """Whoever is cancelled may clean up, for ``stop_timeout`` seconds."""

    class Slow(Diary):
        async def start(self, index: int) -> None:
            self.index = index
            try:
                await asyncio.sleep(1e6 * index)
            finally:
                await asyncio.sleep(1e6 * index)

    pool = WorkerPool(Slow, [], size=2, stop_timeout=10)
    await pool.start()

    await pool.stop()

    assert clock.now() == 10
    assert pool._run is not None
    assert {slot.state for slot in pool._run.slots.values()} == {SlotState.STOPPED}


async def test_a_long_run_leaves_no_task_and_no_timer() -> None:
    """Nothing idle polls, and nothing is left after the stop."""

    class Well(Diary):
        async def healthy(self) -> bool:
            return True

    pool = WorkerPool(
        Well, [], size=2, max_size=4, idle_timeout=5, health_interval=7, restart_every=2
    )
    await pool.start()
    jobs = [await pool.submit("work", 1) for _ in range(20)]
    await asyncio.gather(*jobs)
    await asyncio.sleep(100)
    await pool.stop()

    assert left_over() == []


async def test_idle_workers_cost_nothing() -> None:
    """A pool without health checks and extra workers has neither task nor timer while idle."""
    async with pool_of([], size=100) as pool:
        await asyncio.sleep(1)

        assert left_over() == []
        assert await pool.workers.work() == 0


async def test_jobs_fail_when_all_workers_are_parked_and_revive_by_restart() -> None:
    """Rule 22: callers get errors, never silence; a restart begins anew."""
    log: list[str] = []
    script: list[Any] = [None]
    async with pool_of(log, size=1, start_raises=script, max_restarts=1) as pool:
        script += [OSError()] * 2
        assert pool._run is not None
        slot = pool._run.slots["worker-0"]
        assert slot.engine is not None
        pool._run.supervisor.died(slot, slot.engine, "killed")
        job = await pool.submit("work")

        with pytest.raises(NoResourceError, match="1 disabled"):
            await job
        with pytest.raises(NoResourceError):
            await pool.workers.work()
        await pool.restart()

        assert await pool.workers.work() == 0


async def test_a_parked_worker_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """Rule 28: an event and a warning say that a worker was given up; the pool goes on."""
    events: list[Any] = []
    script: list[Any] = [OSError("secret"), None, OSError("secret")]
    with caplog.at_level(logging.INFO, "penstock"):
        async with pool_of(
            [], size=2, start_raises=script, max_restarts=1, observers=[events.append]
        ) as pool:
            await asyncio.sleep(60)
            assert await pool.workers.work() == 1
            assert pool._run is not None
            assert pool._run.workers.health().ready == 1

    assert any(getattr(event, "new", "") == "parked" for event in events)
    assert "worker 'worker-0' of pool 'workers' is parked" in caplog.text
    assert "secret" not in caplog.text
