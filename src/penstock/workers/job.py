"""Job: one piece of work that was handed to a pool of workers, and what comes of it."""

from __future__ import annotations

import asyncio
import enum
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from penstock.errors import PoolStoppedError
from penstock.verdict import Signal

if TYPE_CHECKING:
    from penstock.waitlist import Waiter
    from penstock.workers.dispatcher import Dispatcher
    from penstock.workers.pipeline import Way
    from penstock.workers.target import Target

__all__ = ["Job", "JobState"]

R = TypeVar("R")

_NO_KEYWORDS: dict[str, Any] = {}
_NO_CONTEXT = Context()


class JobState(enum.Enum):
    """Where a job stands; the values are the words in snapshots."""

    WAITING = "waiting"
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"


class Job(asyncio.Future[R]):
    """A job in a pool of workers; await it for its result.

    It is a future like a task is one: ``cancel`` ends the work and then the job, and whoever is
    cancelled while they await it cancels it.

    Attributes:
        state: Waiting for other jobs, queued, starting (on its way to a worker), running or ended.
        target: What is called.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        priority: Higher is served first.
        way: The stages that it goes through.
        context: The submitter's context variables.
        submitted_at: Monotonic second.
        served: Whether a worker was found for it once.
        is_asked_to_end: Whether ``cancel`` was called while it ran.
    """

    __slots__ = (
        "_dispatcher",
        "args",
        "context",
        "is_asked_to_end",
        "kwargs",
        "priority",
        "served",
        "state",
        "submitted_at",
        "target",
        "task",
        "waiter",
        "way",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - the fields of a record
        self,
        target: Target,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        way: Way,
        context: Context,
        priority: int,
        dispatcher: Dispatcher,
    ) -> None:
        super().__init__(loop=dispatcher.loop)
        self.state = JobState.WAITING
        self.target = target
        self.args = args
        self.kwargs = kwargs or _NO_KEYWORDS
        self.way = way
        self.context = context
        self.priority = priority
        self.submitted_at = 0.0
        self.waiter: Waiter | None = None
        self.task: asyncio.Task[None] | None = None
        self.served = False
        self.is_asked_to_end = False
        self._dispatcher = dispatcher

    @property
    def operation_name(self) -> str:
        """What is called, for people to read."""
        return self.target.operation_name

    def __call__(self, resource: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run on the worker behind a resource: what the innermost stage starts."""
        if not self.served:
            self.served = True
            self._dispatcher.found_worker()
        else:
            resource.value.retried += 1
        return resource.value.serve(self.target, args, kwargs)

    def cancel(self, msg: Any | None = None) -> bool:
        """End the work, wherever it stands; False when the job has ended already.

        A job that runs ends when its work has: what it had to clean up is done by then.
        """
        if self.done():
            return False
        if self.state is JobState.RUNNING and self.task is not None:
            self.is_asked_to_end = True
            return self.task.cancel(msg)
        cancelled = super().cancel(msg)
        self._dispatcher.leave(self)
        return cancelled

    def kill(self) -> None:
        """Cancel the work because the pool is killed."""
        if self.task is not None:
            self.task.cancel()

    def was_killed(self) -> bool:
        """Return True where the pool has cancelled the work, and nobody else has."""
        return not self.is_asked_to_end

    def end_with(self, failure: BaseException) -> None:
        """End as failed, or as cancelled, once the work has ended."""
        if self.done():
            return
        if isinstance(failure, asyncio.CancelledError):
            super().cancel(*failure.args)
        else:
            self.set_exception(failure)
            if isinstance(failure, PoolStoppedError | Signal):
                # The pool has been told, and tells in its own words; asyncio need not, of each.
                self.exception()

    def let_go(self) -> None:
        """Drop what the work needed; whoever keeps the job keeps its result alone."""
        self.state = JobState.ENDED
        self.args, self.kwargs, self.context = (), _NO_KEYWORDS, _NO_CONTEXT
        self.task = self.waiter = None

    def __repr__(self) -> str:
        return f"<Job {self.operation_name!r}, {self.state.value}>"
