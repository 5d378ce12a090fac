"""Jobs in line: who is started when, and what holds up whoever submits too fast."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from penstock import clock
from penstock.call import Call
from penstock.parking import park_until_granted, wake
from penstock.pools.candidate import Standing
from penstock.pools.lane import Lane
from penstock.waitlist import WaiterState, WaitList
from penstock.workers.job import Job, JobState
from penstock.workers.pipeline import Way
from penstock.workers.target import Target

__all__ = ["Direct", "Dispatcher"]

READY, FULL, PROBING, COOLING, AWAY, _ = Standing

# Jobs that never wait would keep the loop from everything else.
_MOST_IN_A_ROW = 16


class Dispatcher:
    """Starts a job when a worker is ready for it, in order of priority and arrival.

    A job in line is a record and a future; it becomes a task when it is started, in the context of
    whoever submitted it. So neither a context variable nor a swallowed cancel of one job reaches
    the next.

    Args:
        lane: What the pool knows of its workers.
        room: Most jobs in line; None for no bound.
        failed: Asked what becomes of a job that has failed: True to put it in line again.
        wanted: Told when jobs wait and no worker is ready.

    Attributes:
        starting: Jobs on their way to their first worker.
        running: Jobs and direct calls that have begun and not ended.
        is_paused: While True no job is started.
    """

    def __init__(
        self,
        lane: Lane,
        room: int | None,
        failed: Callable[[Job[Any], BaseException], bool],
        wanted: Callable[[], None],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.starting = 0
        self.running = 0
        self.is_paused = False
        self.tasks: set[Any] = set()
        self._counts = lane.counts
        self._room = room
        self._failed = failed
        self._wanted = wanted
        self._line = WaitList()
        self._producers = WaitList()
        # Places in line of producers that were let in and have not come yet.
        self._reserved = 0
        self._held_back = 0
        self._joining: list[asyncio.Future[None]] = []

    @property
    def queued(self) -> int:
        """Jobs in line."""
        return len(self._line)

    @property
    def unfinished(self) -> int:
        """Jobs that have not ended, and direct calls."""
        return len(self._line) + self.running + self._held_back

    @property
    def _is_full(self) -> bool:
        return self._room is not None and len(self._line) + self._reserved >= self._room

    @property
    def may_run_directly(self) -> bool:
        """True when a call need not stand in line: nobody does, and a worker is ready."""
        return not self._line and self._counts[READY] > self.starting and not self.is_paused

    def submit_nowait(self, job: Job[Any]) -> bool:
        """Put a job in line; False when there is no room."""
        if self._is_full or self._producers:
            return False
        self.put(job)
        return True

    async def wait_for_room(self, priority: int) -> None:
        """Wait until the line has room for one more, which must be put there at once."""
        if not self._is_full and not self._producers:
            return
        waiter = self._producers.park(priority=priority)
        try:
            await park_until_granted(waiter)
        except BaseException:
            if not self._producers.abandon(waiter):
                self._reserved -= 1
                self._let_in()
            raise
        if waiter.state is WaiterState.GRANTED:
            self._reserved -= 1

    def put(self, job: Job[Any]) -> None:
        """Put a job in line, whether there is room or not."""
        job.state = JobState.QUEUED
        job.submitted_at = clock.now()
        job.waiter = self._line.park(job, job.priority)
        self.pump()

    def hold_back(self, job: Job[Any]) -> None:
        """Count a job in that waits for others before it can stand in line."""
        del job
        self._held_back += 1

    def let_go(self, job: Job[Any]) -> None:
        """Put a job in line that was held back."""
        self._held_back -= 1
        self.put(job)

    def pump(self) -> None:
        """Start as many jobs as there are workers ready for them."""
        line = self._line
        while line:
            if not self._may_start():
                if not self._counts[READY]:
                    self._wanted()
                return
            job: Job[Any] = line.grant().cost  # type: ignore[union-attr]  # somebody is in it
            self._begin(job, None)
            job.task = asyncio.Task(self._serve(job), loop=self.loop, context=job.context)

    def found_worker(self) -> None:
        """Note that a job that was starting has its worker; there may be another for the next."""
        self.starting -= 1
        if self._line:
            self.pump()

    def leave(self, job: Job[Any]) -> None:
        """Take a job out that was cancelled before its work began."""
        match job.state:
            case JobState.QUEUED:
                self._line.abandon(job.waiter)  # type: ignore[arg-type]  # one in line has one
                self._let_in()
            case JobState.STARTING:
                job.task.cancel()  # type: ignore[union-attr]  # one that starts has one
                self.starting -= 1
                self.running -= 1
                self.pump()
            case _:
                self._held_back -= 1
        job.let_go()
        self.look_whether_idle()

    async def run_directly(
        self, way: Way, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run a call in the caller's own task."""
        direct, task = Direct(self, target), asyncio.current_task(self.loop)
        self.starting += 1
        self.running += 1
        self.tasks.add(task)
        try:
            return await way.handler(Call(way.context, direct, args, kwargs))
        finally:
            self.tasks.discard(task)
            self.running -= 1
            if not direct.served:
                self.starting -= 1
            if self._line:
                self.pump()
            elif not self.running:
                self.look_whether_idle()

    async def join(self) -> None:
        """Wait until no job is left."""
        while self.unfinished:
            waiting: asyncio.Future[None] = self.loop.create_future()
            self._joining.append(waiting)
            await waiting

    def end_all(self, failure: Callable[[], BaseException]) -> list[Job[Any]]:
        """End every job in line with a failure of its own; return them."""
        jobs: list[Job[Any]] = [waiter.cost for waiter in self._line.abandon_all()]
        for job in jobs:
            job.let_go()
            job.set_exception(failure())
        for waiter in self._producers.abandon_all():
            wake(waiter)
        self.look_whether_idle()
        return jobs

    def look_whether_idle(self) -> None:
        """Tell whoever joins when nothing is left."""
        if self._joining and not self.unfinished:
            joining, self._joining = self._joining, []
            for waiting in joining:
                if not waiting.done():
                    waiting.set_result(None)

    def _may_start(self) -> bool:
        counts = self._counts
        if self.is_paused or counts[READY] > self.starting:
            return not self.is_paused
        if self.starting or counts[READY]:
            return False
        # One goes ahead and waits in the pool's own line, which knows when a rest ends; or is told
        # that nobody will ever serve.
        expected = counts[FULL] or counts[PROBING] or counts[AWAY]
        return bool(counts[COOLING]) or not expected

    def _begin(self, job: Job[Any], task: asyncio.Task[Any] | None) -> None:
        job.state = JobState.STARTING
        job.waiter = None
        job.task = task
        self.starting += 1
        self.running += 1
        if self._producers:
            self._let_in()

    async def _serve(self, job: Job[Any]) -> None:
        # A task for every job costs as much as all the rest of it. So one goes on with the next,
        # where that cannot notice: nothing was set in the context, no cancel was swallowed.
        task = job.task
        self.tasks.add(task)
        try:
            for _ in range(_MOST_IN_A_ROW):
                await self._run(job)
                following = self._next_in(task)
                if following is None:
                    return
                job = following
            await self._run(job)
            self.pump()
        finally:
            self.tasks.discard(task)

    def _next_in(self, task: Any) -> Job[Any] | None:
        head = self._line.head()
        if head is None:
            return None
        if self._may_start() and not task.cancelling() and head.cost.context == copy_context():
            self._line.grant()
            job: Job[Any] = head.cost
            self._begin(job, task)
            return job
        self.pump()
        return None

    async def _run(self, job: Job[Any]) -> None:
        job.state = JobState.RUNNING
        way = job.way
        try:
            result = await way.handler(Call(way.context, job, job.args, job.kwargs))
        except asyncio.CancelledError:
            self._ended(job)
            job.end_cancelled()
        except BaseException as failure:
            self._fail(job, failure)
            if not isinstance(failure, Exception):
                raise
        else:
            self._ended(job)
            job.set_result(result)

    def _fail(self, job: Job[Any], failure: BaseException) -> None:
        if self._failed(job, failure):
            self._count_out(job)
            job.served = False
            self.put(job)
            return
        self._ended(job)
        job.set_exception(failure)

    def _ended(self, job: Job[Any]) -> None:
        self._count_out(job)
        job.let_go()
        if not self.running:
            self.look_whether_idle()

    def _count_out(self, job: Job[Any]) -> None:
        self.running -= 1
        if not job.served:
            self.starting -= 1

    def _let_in(self) -> None:
        while not self._is_full and (waiter := self._producers.grant()) is not None:
            self._reserved += 1
            wake(waiter)


class Direct:
    """A call that runs in its caller's own task."""

    __slots__ = ("_dispatcher", "served", "target")

    def __init__(self, dispatcher: Dispatcher, target: Target) -> None:
        self._dispatcher = dispatcher
        self.target = target
        self.served = False

    @property
    def operation_name(self) -> str:
        """What is called, for people to read."""
        return self.target.operation_name

    def __call__(self, resource: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run on the worker behind a resource: what the innermost stage starts."""
        if not self.served:
            self.served = True
            self._dispatcher.found_worker()
        return resource.value.serve(self.target, args, kwargs)
