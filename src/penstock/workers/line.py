"""The line of a pool's jobs: who waits to be started, to hand one in, or for the last to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import get_ident
from typing import Any

from penstock import clock
from penstock.errors import PolicyError
from penstock.parking import park_until_granted, wake
from penstock.waitlist import WaiterState, WaitList
from penstock.workers.job import Job, JobState

__all__ = ["Line"]


class Line:
    """Jobs that have not been started, and who waits because of them.

    A place in line is taken from the moment a producer is let in until the job is started or has
    ended; a job that waits for other jobs has one too.

    Args:
        room: Most jobs in line; None for no bound.

    Attributes:
        loop: Where all of this happens.
        thread: The thread of that loop.
        line: Who waits to be started, as the ``cost`` of waiters.
        active: Jobs and direct calls that have been started and have not ended.
        joining: Who waits until none is left.
        closed: Makes the error of whoever comes now; None while jobs are taken.
        refusal: Makes the error of every job that has not ended; None while jobs may be run.
    """

    def __init__(self, room: int | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.thread = get_ident()
        self.line = WaitList()
        self.active: set[Any] = set()
        self.joining: set[asyncio.Future[None]] = set()
        self.closed: Callable[[], BaseException] | None = None
        self.refusal: Callable[[], BaseException] | None = None
        self._room = room
        self._held_back: set[Job[Any]] = set()
        self._producers = WaitList()
        # Places of producers that were let in and have not come yet.
        self._reserved = 0

    @property
    def queued(self) -> int:
        """Jobs in line, and jobs that wait for other jobs before they may join it."""
        return len(self.line) + len(self._held_back)

    @property
    def running(self) -> int:
        """Jobs and direct calls that have been started and have not ended."""
        return len(self.active)

    @property
    def unfinished(self) -> int:
        """Jobs that have not ended, and direct calls."""
        return self.queued + len(self.active)

    @property
    def _is_full(self) -> bool:
        room = self._room
        return room is not None and self.queued + self._reserved >= room

    def check(self) -> None:
        """Refuse what may not come in.

        Raises:
            PoolStoppedError: The pool takes no more jobs.
            PolicyError: This is another thread, or another loop.
        """
        if get_ident() != self.thread or self.loop.is_closed():
            raise PolicyError(
                "a pool of workers is used in the event loop that it was started in; "
                "give each loop a pool of its own"
            )
        if self.closed is not None:
            raise self.closed()

    def close(self, refusal: Callable[[], BaseException]) -> None:
        """Take no more jobs; whoever waits for room is refused."""
        if self.closed is None:
            self.closed = refusal
        self.refuse_producers()

    def refuse_producers(self) -> None:
        """Let whoever waits for room go: the pool takes no more jobs."""
        for waiter in self._producers.abandon_all():
            wake(waiter)

    def has_room(self) -> bool:
        """Return True when a job may be put in line without waiting."""
        # Without a bound nobody ever waits for room.
        return self._room is None or not (self._producers or self._is_full)

    async def wait_for_room(self, priority: int) -> None:
        """Wait until the line has room for one more, which must be put there at once.

        It also returns when the pool has been stopped meanwhile; whoever waited looks.
        """
        if self.has_room():
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
        if self.refusal is not None:
            job.let_go()
            job.end_with(self.refusal())
            return
        job.state = JobState.QUEUED
        job.submitted_at = clock.now()
        job.waiter = self.line.park(job, job.priority)
        self.pump()

    def hold_back(self, job: Job[Any]) -> None:
        """Keep a job that waits for others before it can stand in line."""
        self._held_back.add(job)

    def let_go(self, job: Job[Any]) -> None:
        """Put a job in line that was held back."""
        self._held_back.remove(job)
        self.put(job)

    def give_up(self, job: Job[Any], failure: BaseException) -> None:
        """End a job with a failure before its work has begun."""
        raise NotImplementedError

    def pump(self) -> None:
        """Start as many jobs as there are workers ready for them."""
        raise NotImplementedError

    async def join(self) -> None:
        """Wait until no job is left."""
        while self.unfinished:
            waiting: asyncio.Future[None] = self.loop.create_future()
            self.joining.add(waiting)
            try:
                await waiting
            finally:
                self.joining.discard(waiting)

    def look_whether_idle(self) -> None:
        """Tell whoever joins when nothing is left."""
        if self.joining and not self.unfinished:
            for waiting in self.joining:
                if not waiting.done():
                    waiting.set_result(None)

    def _leave_line(self, job: Job[Any]) -> None:
        # Not started yet: in line, or held back.
        if job.waiter is None:
            self._held_back.discard(job)
        else:
            self.line.abandon(job.waiter)
        self._let_in()

    def _let_in(self) -> None:
        while not self._is_full and (waiter := self._producers.grant()) is not None:
            self._reserved += 1
            wake(waiter)
