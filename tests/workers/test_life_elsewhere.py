"""The life of workers that live elsewhere: an engine that plays a process, and dies like one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock import Policy, TryAgain, WorkerDiedError, clock
from penstock.testing import run
from penstock.workers import WorkerPool
from penstock.workers.run import Run
from penstock.workers.slot import Slot, SlotState

pytestmark = pytest.mark.virtual_time


class PlayedProcess:
    """An engine whose calls fail when it is killed, and which tells of its death.

    Attributes:
        lives: All that were made, in order.
    """

    lives: list[PlayedProcess]

    def __init__(self, spec: Any, died: Any) -> None:
        self.lives.append(self)
        self.worker = spec.make(*spec.args, **spec.kwargs)
        self.died = died
        self.calls: set[asyncio.Future[Any]] = set()
        self.is_killed = False
        self.is_stopped = False
        self.answers = True

    async def start(self) -> None:
        """Take a second."""
        await asyncio.sleep(1)

    async def call(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Run a method beside the caller."""
        call = asyncio.ensure_future(target.of(self.worker)(*args, **kwargs))
        self.calls.add(call)
        try:
            return await call
        except asyncio.CancelledError:
            if self.is_killed:
                raise WorkerDiedError("killed") from None
            raise
        finally:
            self.calls.discard(call)

    async def healthy(self) -> bool:
        """Be well, or silent."""
        if not self.answers:
            await asyncio.sleep(1e9)
        return True

    async def stop(self) -> None:
        """Take a second."""
        await asyncio.sleep(1)
        self.is_stopped = True

    def kill(self) -> None:
        """Fail all calls."""
        self.is_killed = True
        for call in self.calls:
            call.cancel()

    def crash(self) -> None:
        """Die as a process does that is killed from outside."""
        self.kill()
        self.died("killed by signal 9")


class Work:
    """What the workers do."""

    tries = 0

    async def work(self, seconds: float = 0.0) -> str:
        """Take some seconds."""
        await asyncio.sleep(seconds)
        return "done"

    async def again(self) -> str:
        """Fail once."""
        Work.tries += 1
        if Work.tries == 1:
            raise TryAgain
        return "again"


class Asked(Work):
    """The same; its engine answers for it."""

    async def healthy(self) -> bool:
        """Be well."""
        return True


class Elsewhere(WorkerPool[Work]):
    """A pool whose workers live in played processes."""

    def _new_run(self) -> Run:
        run_ = super()._new_run()
        run_.crew.mode = PlayedProcess
        return run_


@pytest.fixture(autouse=True)
def _anew() -> None:
    PlayedProcess.lives = []
    Work.tries = 0


def pool_of(**options: Any) -> Elsewhere:
    """Return a pool of played processes."""
    return Elsewhere(Work, mode="thread", **options)


def slot_of(pool: Elsewhere) -> Slot:
    """Return the place of the first worker."""
    assert pool._run is not None
    return pool._run.slots["worker-0"]


async def test_a_crash_fails_its_own_calls_alone() -> None:
    """Whoever is served elsewhere does not notice, and the worker is replaced."""
    async with pool_of(size=2) as pool:
        await asyncio.sleep(1)
        jobs = [await pool.submit("work", 5) for _ in range(2)]
        await asyncio.sleep(1)
        PlayedProcess.lives[0].crash()

        results = await asyncio.gather(*jobs, return_exceptions=True)
        await asyncio.sleep(0)

        assert sorted(type(result).__name__ for result in results) == ["WorkerDiedError", "str"]
        assert len(PlayedProcess.lives) == 3
        assert await pool.workers.work() == "done"


async def test_a_retry_makes_a_crash_unseen() -> None:
    """A worker's death is transient: the call is made again on the one that replaces it."""
    policy = Policy("again").with_retry(attempts=2, wait=0)
    async with pool_of(size=1, policy=policy) as pool:
        job = await pool.submit("work", 5)
        await asyncio.sleep(1)
        PlayedProcess.lives[0].crash()

        assert await job == "done"


async def test_a_call_that_was_given_a_worker_which_dies_in_the_same_step_waits_on() -> None:
    """It had not begun: it is not failed, and not sent to nobody."""
    policy = Policy("again").with_retry(attempts=2, wait=0.5)
    async with pool_of(size=1, policy=policy) as pool:
        waiting = await pool.submit("again")
        await asyncio.sleep(0.1)
        await pool.workers.work(1)
        PlayedProcess.lives[0].crash()

        assert await waiting == "again"
        assert len(PlayedProcess.lives) == 2


async def test_a_silent_worker_is_killed_with_its_calls() -> None:
    """Elsewhere the calls of a worker that hangs fail with WorkerDiedError."""
    async with Elsewhere(Asked, mode="process", size=1, health_timeout=5) as pool:
        PlayedProcess.lives[0].answers = False
        job = await pool.submit("work", 1000)

        with pytest.raises(WorkerDiedError):
            await job
        assert clock.now() == 36
        assert await pool.workers.work() == "done"


async def test_a_silent_worker_without_calls_is_stopped_in_its_time() -> None:
    """It may still hold something that its ``stop`` gives back."""
    async with Elsewhere(Asked, mode="process", size=1, health_timeout=5) as pool:
        PlayedProcess.lives[0].answers = False
        await asyncio.sleep(40)

        assert PlayedProcess.lives[0].is_stopped
        assert await pool.workers.work() == "done"


async def test_a_busy_thread_is_not_taken_for_a_silent_one() -> None:
    """A thread serves one after the other, ``healthy`` too, and cannot be ended anyway."""
    async with Elsewhere(Asked, mode="thread", size=1, health_timeout=5) as pool:
        PlayedProcess.lives[0].answers = False
        job = await pool.submit("work", 40)

        assert await job == "done"


async def test_a_crash_while_the_worker_stops_keeps_nobody_waiting() -> None:
    """Its calls have ended by that, and there is nothing left to stop."""
    pool = pool_of(size=1)
    await pool.start()
    job = await pool.submit("work", 100)
    await asyncio.sleep(1)
    stopping = asyncio.create_task(pool.resize(1))
    slot = slot_of(pool)
    assert pool._run is not None
    pool._run.supervisor.stop(slot, "resized")
    await asyncio.sleep(1)
    PlayedProcess.lives[0].crash()
    await asyncio.wait([job, stopping])
    await asyncio.sleep(0)

    assert slot.state is SlotState.STOPPED
    assert clock.now() == 3
    await pool.stop()


async def test_a_kill_leaves_no_engine() -> None:
    """Busy ones are killed when their calls have been cancelled in vain, idle ones stop."""
    pool = pool_of(size=2)
    await pool.start()
    await asyncio.sleep(1)
    await pool.submit("work", 100)
    await asyncio.sleep(1)

    await pool.kill()

    assert all(life.is_stopped or life.is_killed for life in PlayedProcess.lives)


async def test_what_cannot_be_made_at_all_is_not_tried_again() -> None:
    """What a mode refuses to make it would refuse another time."""
    made: list[Any] = []

    def refuse(spec: Any, died: Any) -> Any:
        made.append((spec, died))
        raise TypeError("it cannot be sent")

    class Nowhere(Elsewhere):
        def _new_run(self) -> Run:
            run_ = super()._new_run()
            run_.crew.mode = refuse
            return run_

    pool = Nowhere(Work, mode="thread", size=2)
    with pytest.raises(TypeError, match="it cannot be sent"):
        await pool.start()

    assert len(made) == 2
    assert clock.now() == 0


async def test_an_engine_whose_kill_raises_is_left_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is told, and keeps no other worker from its end."""

    class Stuck(PlayedProcess):
        def kill(self) -> None:
            super().kill()
            raise OSError("no such process")

    class Nowhere(Elsewhere):
        def _new_run(self) -> Run:
            run_ = super()._new_run()
            run_.crew.mode = Stuck
            return run_

    async with Nowhere(Work, mode="thread", size=1) as pool:
        slot = slot_of(pool)
        assert pool._run is not None
        assert slot.engine is not None
        pool._run.supervisor.died(slot, slot.engine, "killed")

        assert await pool.workers.work() == "done"

    assert "stop raised OSError" in caplog.text


def test_a_loop_that_was_closed_leaves_no_engine_to_the_next() -> None:
    """A pool that is started anew, or killed, ends what its old loop has left."""
    pool = pool_of(size=1)

    async def begin() -> None:
        await pool.start()

    run(begin())
    run(pool.stop())
    run(pool.kill())

    assert [life.is_killed for life in PlayedProcess.lives] == [True]
