"""One run of a pool of workers, from its start to its stop: what belongs to one event loop."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from penstock.errors import PoolStoppedError
from penstock.events import Event
from penstock.observe import Notifier
from penstock.policy import Policy
from penstock.workers.crew import Crew, Makes
from penstock.workers.dispatcher import Dispatcher
from penstock.workers.ending import Ending
from penstock.workers.events import WorkersPaused, WorkersResumed, WorkersStopped
from penstock.workers.health_watch import HealthWatch
from penstock.workers.inputs import Inputs, jobs_in
from penstock.workers.job import Job
from penstock.workers.options import WorkerPoolOptions
from penstock.workers.pipeline import Way, Ways
from penstock.workers.slot import Slot
from penstock.workers.staffing import Staffing
from penstock.workers.target import Target

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
        stopped_for: Why no job is taken any more; None while jobs are.
    """

    def __init__(self, makes: Makes, options: WorkerPoolOptions) -> None:
        self.options = options
        notify: Callable[[Event], None] | None = None
        if options.observers:
            notify = Notifier(options.observers)
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
        self.dispatcher = Dispatcher(
            self.workers.machine.main, options.queue, self._failed, self.staffing.wanted
        )
        self.ending = Ending(self)

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

    def job(
        self,
        target: Target,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        way: Way,
        priority: int,
    ) -> Job[Any]:
        """Return a job that nobody knows of yet."""
        return Job(target, args, kwargs, way, copy_context(), priority, self.dispatcher)

    async def submit(self, job: Job[Any]) -> None:
        """Put a job in line, once there is room."""
        dispatcher = self.dispatcher
        inputs = jobs_in(job.args, job.kwargs)
        if inputs is None and dispatcher.submit_nowait(job):
            return
        await dispatcher.wait_for_room(job.priority)
        self.check_open()
        if inputs is None:
            dispatcher.put(job)
        else:
            Inputs(dispatcher, job, inputs).wait()

    async def call(
        self, way: Way, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a method: in the caller's own task where a worker is ready, else as a job."""
        if not (self.dispatcher.may_run_directly and jobs_in(args, kwargs) is None):
            job = self.job(target, args, kwargs or None, way, 0)
            await self.submit(job)
            return await job
        return await self.dispatcher.call(way, target, args, kwargs)

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
            kind = None if failure is None else type(failure).__name__
            self.crew.tell(WorkersStopped, reason=reason, error_type=kind)

    def pause(self, reason: str, seconds: float | None = None) -> None:
        """Give no call to any worker until ``resume``; those under way go on."""
        if self.dispatcher.is_paused:
            return
        self.dispatcher.is_paused = True
        self.staffing.pause()
        self.crew.tell(WorkersPaused, reason=reason, seconds=seconds)

    def resume(self) -> None:
        """End a pause."""
        if not self.dispatcher.is_paused:
            return
        self.dispatcher.is_paused = False
        self.staffing.resume()
        self.crew.tell(WorkersResumed)
        self.dispatcher.pump()

    def _look_again(self) -> None:
        self.staffing.came_up()
        self.dispatcher.pump()

    def _left(self, slot: Slot) -> None:
        del slot

    def _failed(self, job: Job[Any], failure: BaseException) -> bool:
        del job, failure
        return False


def pool_policy(options: WorkerPoolOptions) -> Policy:
    """Return what jobs go through on their way to a worker."""
    if options.policy is not None and options.policy_per == "pool":
        return options.policy
    return Policy(options.name, observers=options.observers, telemetry=options.telemetry)
