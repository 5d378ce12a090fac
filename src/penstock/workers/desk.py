"""Where jobs and calls come in: in line, or past it when nobody is in it."""

from __future__ import annotations

from contextvars import copy_context
from threading import get_ident
from typing import Any

from penstock.call import Call
from penstock.errors import ConcurrencyLimitedError
from penstock.pools.candidate import Standing
from penstock.workers.direct import Direct
from penstock.workers.dispatcher import Dispatcher
from penstock.workers.inputs import Inputs, jobs_in
from penstock.workers.job import Job
from penstock.workers.pipeline import Way
from penstock.workers.target import Target

__all__ = ["Desk"]

_READY = Standing.READY


class Desk(Dispatcher):
    """Takes jobs and calls, as long as the pool is open."""

    def job(
        self,
        way: Way,
        target: Target,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        priority: int = 0,
    ) -> Job[Any]:
        """Return a job that nobody knows of yet, in the context of whoever asks.

        Raises:
            PoolStoppedError: The pool takes no more jobs.
            PolicyError: This is not the pool's event loop.
        """
        if self.closed is not None or get_ident() != self.thread or self.loop.is_closed():
            self.check()
        return Job(target, args, kwargs, way, copy_context(), priority, self)

    def submit_nowait(self, job: Job[Any]) -> None:
        """Put a job in line.

        Raises:
            ConcurrencyLimitedError: There is no room.
        """
        if not self.has_room():
            msg = f"the pool's line is full: {self.queued} jobs wait; use submit, which waits too"
            raise ConcurrencyLimitedError(msg)
        self.take(job)

    async def submit(self, job: Job[Any]) -> None:
        """Put a job in line, once there is room.

        Raises:
            PoolStoppedError: The pool was stopped meanwhile.
        """
        if not self.has_room():
            await self.wait_for_room(job.priority)
            try:
                self.check()
                self.take(job)
            except BaseException:
                # The place that it was let in for goes to the next.
                self._let_in()
                raise
        else:
            self.take(job)

    async def call(
        self, way: Way, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a method: in the caller's own task where a worker is ready, else as a job.

        Raises:
            PoolStoppedError: The pool takes no more calls.
        """
        if self._has_to_stand_in_line(args, kwargs):
            job = self.job(way, target, args, kwargs)
            await self.submit(job)
            return await job
        direct = Direct(self, target, args, kwargs)
        if direct.task is None:
            # The pool's own loop is closed.
            self.check()
        self.starting += 1
        self.active.add(direct)
        told: BaseException | None = None
        try:
            result = await way.handler(Call(way.context, direct, args, kwargs))
        except BaseException as failure:
            self.count_out(direct)
            told = self.outcome(direct, failure)
            if told is failure:
                raise
            if told is not None:
                raise told  # noqa: B904 - it has a cause of its own, or none
        else:
            self.count_out(direct)
            self.done += 1
            return result
        finally:
            # Its frames hold this one: together they would be a cycle.
            told = None
            self._look_on()
        again: Job[Any] = Job(target, args, kwargs, way, copy_context(), 0, self)
        self.put(again)
        return await again

    def _has_to_stand_in_line(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        # Also who will be refused there.
        return (
            bool(self.line)
            or self.counts[_READY] <= self.starting
            or self.closed is not None
            or get_ident() != self.thread
            or jobs_in(args, kwargs) is not None
        )

    def _look_on(self) -> None:
        if self.line:
            self.pump()
        elif self.joining:
            self.look_whether_idle()

    def take(self, job: Job[Any]) -> None:
        """Put a job in line, where there is room; first it waits for the jobs it is called with."""
        inputs = jobs_in(job.args, job.kwargs)
        if inputs is None:
            self.put(job)
        else:
            Inputs(self, job, inputs).wait()
