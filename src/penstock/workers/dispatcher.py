"""Which job is started when, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any

from penstock.call import Call
from penstock.pools.candidate import Standing
from penstock.pools.lane import Lane
from penstock.workers.direct import Direct
from penstock.workers.job import Job, JobState
from penstock.workers.line import Line

__all__ = ["Dispatcher"]

READY, FULL, PROBING, COOLING, AWAY, _ = Standing
RUNNING = JobState.RUNNING

# Jobs that never wait would keep the loop from everything else.
_MOST_IN_A_ROW = 16
_IN_A_ROW = range(_MOST_IN_A_ROW - 1, -1, -1)

_MISSING = object()


class Dispatcher(Line):
    """Starts a job when a worker is ready for it: in order of priority, then of arrival.

    A job in line is a record and a future; it becomes a task when it is started, in the context of
    whoever submitted it. So neither a context variable nor a swallowed cancel of one job reaches
    the next.

    Args:
        lane: What the pool knows of its workers.
        room: Most jobs in line; None for no bound.
        failed: Asked what whoever waits for a job or a direct call that has failed, or was
            cancelled, is told; None to run it again. Nothing of it goes on at the moment.
        wanted: Told when jobs wait and no worker is ready; None where nobody can help.

    Attributes:
        counts: How many workers there are of each standing.
        starting: Jobs on their way to their first worker.
        is_paused: While True no job is started.
        done: Jobs and direct calls that ended well.
    """

    def __init__(
        self,
        lane: Lane,
        room: int | None,
        failed: Callable[[Any, BaseException], BaseException | None],
        wanted: Callable[[], None] | None,
    ) -> None:
        super().__init__(room)
        self.starting: int = 0
        self.is_paused = False
        self.done: int = 0
        self.counts = lane.counts
        self._failed = failed
        self._wanted = wanted
        self._will_look = False
        lane.on_ready = self._somebody_is_ready

    def pump(self) -> None:
        """Start as many jobs as there are workers ready for them."""
        line = self.line
        while line:
            if not self._may_start():
                if self._wanted is not None and not self.counts[READY]:
                    self._wanted()
                return
            job: Job[Any] = line.grant().cost  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]  # somebody is in it
            job.task = asyncio.Task(self._serve(job), loop=self.loop, context=job.context)
            self._begin(job)

    def found_worker(self) -> None:
        """Note that a job that was starting has its worker; there may be another for the next."""
        self.starting -= 1
        if self.line:
            if self.counts[READY] > self.starting:
                self.pump()
            elif self._wanted is not None and not self.counts[READY]:
                self._wanted()

    def leave(self, job: Job[Any]) -> None:
        """Take a job out that was cancelled before its work began."""
        self._take_out(job)
        self._failed(job, asyncio.CancelledError())
        job.let_go()
        self.look_whether_idle()

    def give_up(self, job: Job[Any], failure: BaseException) -> None:
        """End a job with a failure before its work has begun."""
        self._take_out(job)
        told = self._failed(job, failure)
        job.let_go()
        job.end_with(told or failure)
        self.look_whether_idle()

    def end_queued(self, refusal: Callable[[], BaseException]) -> None:
        """End every job that has not begun, those to come too, each with an error of its own."""
        self.refusal = refusal
        self.close(refusal)
        jobs: list[Job[Any]] = [waiter.cost for waiter in self.line.abandon_all()]
        jobs += self._held_back
        jobs += [job for job in self.active if isinstance(job, Job) and job.state is not RUNNING]
        for job in jobs:
            self.give_up(job, refusal())

    def cancel_active(self) -> list[asyncio.Task[Any]]:
        """Cancel what is under way; return the tasks that will end, the current one not among them.

        Whoever waits for one of them gets the pool's refusal.
        """
        own = asyncio.current_task()
        pieces: list[Any] = [piece for piece in self.active if piece.task is not own]
        for piece in pieces:
            piece.kill()
        return [piece.task for piece in pieces if piece.task is not None]

    def _may_start(self) -> bool:
        counts = self.counts
        if counts[READY] > self.starting:
            return not self.is_paused
        if self.starting or counts[READY] or self.is_paused:
            return False
        # One goes ahead and waits in the pool's own line, which knows when a rest ends; or is told
        # that nobody will ever serve.
        expected = counts[FULL] or counts[PROBING] or counts[AWAY]
        return bool(counts[COOLING]) or not expected

    def _begin(self, job: Job[Any]) -> None:
        job.state = JobState.STARTING
        job.waiter = None
        self.starting += 1
        self.active.add(job)
        if self._producers:
            self._let_in()

    async def _serve(self, job: Job[Any]) -> None:
        # A task for every job costs as much as all the rest of it. So one goes on with the next,
        # where that cannot notice: nothing was set in the context, no cancel was swallowed.
        task, context = job.task, job.context
        for left in _IN_A_ROW:
            job.state = RUNNING
            way = job.way
            try:
                result = await way.handler(Call(way.context, job, job.args, job.kwargs))
            except (Exception, asyncio.CancelledError) as failure:  # noqa: BLE001 - told there
                self._fail(job, failure)
            except BaseException as failure:
                self._fail(job, failure)
                self.pump()
                raise
            else:
                self._succeed(job, result)
                del result
            head = self.line.head()
            if head is None:
                return
            following: Job[Any] = head.cost
            if not (left and self._may_go_on(task, context, following)):
                self.pump()
                return
            self.line.grant_head(head)
            job = following
            job.task = task
            self._begin(job)

    def _succeed(self, job: Job[Any], result: Any) -> None:
        self.active.discard(job)
        if not job.served:
            self.starting -= 1
        self.done += 1
        job.let_go()
        if not job.done():
            job.set_result(result)
        if self.joining:
            self.look_whether_idle()

    def _may_go_on(self, task: Any, context: Context, following: Job[Any]) -> bool:
        return self._may_start() and _are_same(context, following.context) and not task.cancelling()

    def outcome(self, piece: Job[Any] | Direct, failure: BaseException) -> BaseException | None:
        """Return what the piece ends with; None where it is run again."""
        is_cancel = isinstance(failure, asyncio.CancelledError)
        if self.refusal is not None:
            if is_cancel and piece.was_killed():
                failure = self.refusal()
            return self._failed(piece, failure) or failure
        if is_cancel or not isinstance(failure, Exception):
            self._failed(piece, failure)
            return failure
        return self._failed(piece, failure)

    def _fail(self, job: Job[Any], failure: BaseException) -> None:
        self.count_out(job)
        told = self.outcome(job, failure)
        if told is None:
            job.served = False
            job.task = None
            self.put(job)
            return
        job.let_go()
        job.end_with(told)
        if self.joining:
            self.look_whether_idle()

    def _take_out(self, job: Job[Any]) -> None:
        if job.state is JobState.STARTING:
            job.task.cancel()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]  # one that starts has one
            self.count_out(job)
            self.pump()
        else:
            self._leave_line(job)

    def count_out(self, piece: Job[Any] | Direct) -> None:
        """Count a job or a direct call out, which has ended or is going to stand in line."""
        self.active.discard(piece)
        if not piece.served:
            self.starting -= 1

    def _somebody_is_ready(self) -> None:
        # Whoever gave the worker back most often takes the next job themselves, in this same step.
        # Not so when an attempt has failed and backs off, or a rest or a thread's work has ended.
        if self.line and not self._will_look:
            self._will_look = True
            self.loop.call_soon(self._look)

    def _look(self) -> None:
        self._will_look = False
        self.pump()


def _are_same(context: Context, other: Context) -> bool:
    # By identity: two requests that are equal are still two.
    size = len(context)
    if size != len(other):
        return False
    return not size or all(other.get(var, _MISSING) is value for var, value in context.items())
