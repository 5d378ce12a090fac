"""Jobs, workers and producers in any order: every job ends once, and the books balance."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.errors import NoResourceError, PoolStoppedError, WorkerDiedError
from penstock.testing import VirtualTimeLoop
from penstock.workers import Job, JobState, WorkerPool

pytestmark = pytest.mark.virtual_time

_EXPECTED = (ValueError, NoResourceError, PoolStoppedError, WorkerDiedError)


class Clerk:
    """Works for as long as it is told, and fails when it is told."""

    async def work(self, seconds: float, *, fails: bool) -> float:
        await asyncio.sleep(seconds)
        if fails:
            raise ValueError(seconds)
        return seconds

    async def quit(self) -> None:
        await asyncio.sleep(1)
        raise SystemExit


class Jobs(RuleBasedStateMachine):
    """A pool of two workers with room for four jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.runner = asyncio.Runner(loop_factory=lambda: self.loop)
        self.jobs: list[Job[Any]] = []
        self.ended: dict[int, int] = {}
        self.tasks: list[asyncio.Task[Any]] = []
        self.is_over = False
        self.pool = self.play(self.begin())

    def play(self, what: Any) -> Any:
        return self.runner.run(what)

    async def begin(self) -> WorkerPool[Clerk]:
        pool = WorkerPool(Clerk, size=2, queue=4, restart_delay=3, max_restarts=100)
        await pool.start()
        return pool

    def note(self, job: Job[Any]) -> Job[Any]:
        self.jobs.append(job)
        job.add_done_callback(
            lambda done: self.ended.update({id(done): self.ended.get(id(done), 0) + 1})
        )
        return job

    async def produce(self, *args: Any, priority: int = 0, **kwargs: Any) -> None:
        try:
            self.note(await self.pool.submit(*args, priority=priority, **kwargs))
        except PoolStoppedError:
            assert self.is_over

    async def call(self, seconds: float) -> None:
        with suppress(PoolStoppedError, WorkerDiedError):
            assert await self.pool.workers.work(seconds, fails=False) == seconds

    def task(self, what: Any) -> None:
        async def begin() -> None:
            self.tasks.append(asyncio.create_task(what))
            await asyncio.sleep(0)

        self.play(begin())

    @rule(
        seconds=st.sampled_from([0.0, 0.5, 2.0]), fails=st.booleans(), priority=st.integers(-1, 1)
    )
    def submit(self, seconds: float, priority: int, *, fails: bool) -> None:
        self.task(self.produce("work", seconds, fails=fails, priority=priority))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def submit_after_another(self, data: Any) -> None:
        self.task(self.produce("work", data.draw(st.sampled_from(self.jobs)), fails=False))

    @rule(seconds=st.sampled_from([0.0, 1.5]))
    def call_directly(self, seconds: float) -> None:
        self.task(self.call(seconds))

    @rule()
    def kill_a_worker_from_inside(self) -> None:
        self.task(self.produce("quit"))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel_a_job(self, data: Any) -> None:
        job = data.draw(st.sampled_from(self.jobs))
        self.loop.call_soon(job.cancel)

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel_a_caller(self, data: Any) -> None:
        task = data.draw(st.sampled_from(self.tasks))
        self.loop.call_soon(task.cancel)

    @rule()
    def pause_or_resume(self) -> None:
        if self.is_over:
            return

        async def turn() -> None:
            if self.pool._run.dispatcher.is_paused:
                self.pool.resume()
            else:
                self.pool.pause()

        self.play(turn())

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.play(asyncio.sleep(seconds))

    @precondition(lambda self: not self.is_over)
    @rule(kills=st.booleans())
    def end(self, *, kills: bool) -> None:
        self.is_over = True
        self.play(self.pool.kill() if kills else self.pool.stop())

    @invariant()
    def the_books_agree(self) -> None:
        dispatcher = self.pool._run.dispatcher
        jobs = [piece for piece in dispatcher.active if isinstance(piece, Job)]
        assert 0 <= dispatcher.starting <= len(dispatcher.active)
        assert dispatcher.starting == sum(not piece.served for piece in dispatcher.active)
        assert dispatcher.queued + dispatcher._reserved <= 4
        assert all(job.state in {JobState.STARTING, JobState.RUNNING} for job in jobs)
        queued = [waiter.cost for waiter in dispatcher.line]
        assert all(job.state is JobState.QUEUED and not job.done() for job in queued)
        assert all((job.state is JobState.ENDED) == job.done() for job in self.jobs)

    def teardown(self) -> None:
        async def end() -> None:
            self.pool.resume() if not self.is_over else None
            await asyncio.gather(*self.tasks, return_exceptions=True)
            if not self.is_over:
                await self.pool.join()
            outcomes = await asyncio.gather(*self.jobs, return_exceptions=True)
            for outcome in outcomes:
                assert isinstance(outcome, (float, type(None), *_EXPECTED, asyncio.CancelledError))
            await self.pool.stop()
            await asyncio.sleep(0)

        self.play(end())
        dispatcher = self.pool._run.dispatcher
        assert dispatcher.unfinished == dispatcher.starting == dispatcher._reserved == 0
        assert not dispatcher._producers
        assert [self.ended.get(id(job)) for job in self.jobs] == [1] * len(self.jobs)
        assert all(slot.in_flight == 0 for slot in self.pool._run.slots.values())
        self.runner.close()


Jobs.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestJobs = Jobs.TestCase
