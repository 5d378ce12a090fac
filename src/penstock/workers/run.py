"""One run of a pool of workers, from its start to its stop: what belongs to one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from penstock.errors import PoolStoppedError
from penstock.events import Event
from penstock.observe import Notifier
from penstock.policy import Policy
from penstock.switch import CREWS, telling
from penstock.workers.crew import Crew, Makes
from penstock.workers.desk import Desk
from penstock.workers.ending import Ending
from penstock.workers.events import WorkersPaused, WorkersResumed, WorkersStopped
from penstock.workers.failing import Failing
from penstock.workers.health_watch import HealthWatch
from penstock.workers.options import WorkerPoolOptions
from penstock.workers.pipeline import Ways
from penstock.workers.slot import Slot
from penstock.workers.staffing import Staffing
from penstock.workers.tally import Tally

__all__ = ["Run"]


class Run:
    """The workers of a pool, their jobs, and what moves both.

    Attributes:
        slots: The workers' places by id.
        workers: The workers as resources of a pool.
        staffing: How many workers there are.
        health: Asks them how they are.
        dispatcher: Who is started when.
        supervisor: Who is up.
        ways: Which stages a job goes through.
        ending: Ends all of it.
        failing: What becomes of a job that has failed.
        tally: What is counted.
        stopped_for: Why no job is taken any more; None while jobs are.
    """

    def __init__(
        self, makes: Makes, options: WorkerPoolOptions, tally: Tally | None = None
    ) -> None:
        self.options = options
        self.tally = tally or Tally()
        notify: Callable[[Event], None] | None = None
        if options.observers:
            notify = Notifier(options.observers)
        if options.telemetry:
            notify = telling(notify)
        self.crew = Crew(makes, options, notify, self._look_again)
        self.stopped_for: str | None = None
        self.stop_failure: BaseException | None = None
        self.staffing = Staffing(
            self.crew,
            queued=lambda: self.dispatcher.queued,
            is_last=lambda: self.dispatcher.unfinished <= 1,
            left=self._left,
        )
        self.slots = self.staffing.slots
        self.workers = self.staffing.workers
        self.supervisor = self.staffing.supervisor
        self.health = HealthWatch(self.crew, self.supervisor, self.slots.values())
        self.ways = Ways(self.workers, pool_policy(options))
        self.failing = Failing(self)
        self._paused_by: dict[str, asyncio.TimerHandle | None] = {}
        self._has_told_failure = False
        self.dispatcher = Desk(
            self.workers.machine.main, options.queue, self.failing, self.staffing.helper
        )
        self.ending = Ending(self)
        if options.telemetry:
            CREWS.add(self)

    @property
    def is_lost(self) -> bool:
        """True when its event loop was closed before it had come to its end."""
        return self.dispatcher.loop.is_closed()

    async def start(self) -> None:
        """Start the workers, one ``start_interval`` after the other; return when one is up.

        Raises:
            Exception: What the last of them failed with, when none could be started.
            PoolStoppedError: It was stopped meanwhile.
        """
        self.staffing.open()
        await self.supervisor.wait_until_first_is_up(self.slots.values())
        self.check_open()
        self.health.open()

    def check_open(self) -> None:
        """Raise an error if the pool takes no more jobs.

        Raises:
            PoolStoppedError: It has been stopped.
        """
        if self.stopped_for is not None:
            raise self.refusal()

    def refusal(self) -> PoolStoppedError:
        """Return the error of a pool that takes no more jobs."""
        msg = f"pool '{self.options.name}' takes no more jobs: {self.stopped_for}"
        error = PoolStoppedError(msg)
        error.__cause__ = self.stop_failure
        return error

    def close(self, reason: str, failure: BaseException | None = None) -> None:
        """Take no more jobs from now on."""
        if self.stopped_for is None:
            self.stopped_for, self.stop_failure = reason, failure
            self.dispatcher.close(self.refusal)
            kind = None if failure is None else type(failure).__name__
            self.crew.tell(WorkersStopped, reason=reason, error_type=kind)

    def give_up(self, reason: str, failure: BaseException) -> None:
        """Stop for a failure: no job is begun any more; those under way end by themselves.

        Args:
            reason: Why, in words.
            failure: What it stops for; the cause of what everybody who waits is told.
        """
        if self.stop_failure is not None or self.dispatcher.refusal is not None:
            return
        # Whoever was stopping it anyway is told, too.
        self.stopped_for = None
        self.close(reason, failure)
        self.dispatcher.end_queued(self.refusal)
        for id_ in [*self.workers.machine.members]:
            # Attempts that wait for a worker are told that none will come.
            self.workers.disable(id_, "stopped")
        self.ending.begin()

    def raise_failure(self) -> None:
        """Raise what the pool has stopped for by itself, the first time that it is asked.

        Raises:
            PoolStoppedError: It has.
        """
        if self.stop_failure is not None and not self._has_told_failure:
            self._has_told_failure = True
            raise self.refusal()

    def hand_over(self) -> Tally:
        """Return what was counted, for the next run of the pool; this one is over."""
        self.tally.done += self.dispatcher.done
        for slot in self.slots.values():
            self.tally.retire(slot)
        return self.tally

    def pause(self, reason: str, seconds: float | None = None, by: str = "user") -> None:
        """Give no call to any worker until ``resume``; those under way go on.

        Args:
            reason: A short word, for events.
            seconds: When it ends by itself; None for never.
            by: Whose pause it is: there may be several at a time, one of each.
        """
        if by in self._paused_by:
            return
        if not self._paused_by:
            self.dispatcher.is_paused = True
            self.staffing.pause()
        timer = None
        if seconds is not None:
            timer = self.dispatcher.loop.call_later(seconds, self.resume, by)
        self._paused_by[by] = timer
        self.crew.tell(WorkersPaused, reason=reason, seconds=seconds)

    def pauses(self) -> list[str]:
        """Return whose pauses there are at the moment."""
        return [*self._paused_by]

    def resume(self, by: str | None = None) -> None:
        """End a pause.

        Args:
            by: Whose; None for all of them.
        """
        if not self._paused_by:
            return
        for name in [*self._paused_by] if by is None else [by]:
            timer = self._paused_by.pop(name, None)
            if timer is not None:
                timer.cancel()
        if self._paused_by:
            return
        self.dispatcher.is_paused = False
        self.staffing.resume()
        self.crew.tell(WorkersResumed)
        self.dispatcher.pump()

    def _look_again(self) -> None:
        self.staffing.came_up()
        self.dispatcher.pump()

    def _left(self, slot: Slot) -> None:
        self.tally.retire(slot)


def pool_policy(options: WorkerPoolOptions) -> Policy:
    """Return what jobs go through on their way to a worker."""
    if options.policy is not None and options.policy_per == "pool":
        return options.policy
    return Policy(options.name, observers=options.observers, telemetry=options.telemetry)
