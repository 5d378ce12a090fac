"""Slot: the place of one worker in its pool, over all its restarts."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Any

from penstock import clock
from penstock.call import Call, current_call
from penstock.errors import WorkerDiedError
from penstock.workers.asked import restart_asked_in
from penstock.workers.engine import Engine
from penstock.workers.pipeline import Way
from penstock.workers.restarts import Restarts
from penstock.workers.target import Target

__all__ = ["RECENT", "RESTART_EVERY", "Slot", "SlotState"]

RESTART_EVERY = "restart_every"
"""Why a worker is started anew that has done what it may do in one life."""


# A call's share in the moving average; nine of ten parts are the last twenty calls'.
RECENT = 0.1


class SlotState(enum.Enum):
    """What a worker is doing; the values are the words in snapshots and events."""

    STARTING = "starting"
    UP = "up"
    RESTARTING = "restarting"
    PARKED = "parked"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Slot:
    """One worker, as the value of a resource of the pool.

    Attributes:
        id: The resource's id.
        index: Its place, from 0.
        state: What the worker is doing.
        engine: Where the worker lives while calls may be under way; None while there is none.
        passing: Where it lives while it starts or stops; None while it does neither.
        restarts: How often it may be started anew.
        way: The worker's own stages (``policy_per="worker"``); None without.
        task: Starts, restarts or stops the worker; None while nothing of that goes on. Whatever
            runs and is not this task any more has been overtaken, and changes nothing.
        is_due: Whether it has to be started anew before its next call.
        in_flight: Calls that it serves.
        done: Calls that ended well.
        failed: Calls that ended with a failure.
        cancelled: Calls that were cancelled.
        retried: Calls beyond the first one of a job.
        restarted: Times it was started anew.
        latency: Seconds that a call takes of late: a moving average, weighted exponentially.
        busy_seconds: Seconds spent on calls.
        idle_since: Monotonic second at which it had nothing to do any more.
    """

    __slots__ = (
        "_idle",
        "_restart",
        "_restart_every",
        "_until_restart",
        "busy_seconds",
        "cancelled",
        "done",
        "engine",
        "failed",
        "id",
        "idle_since",
        "in_flight",
        "index",
        "is_due",
        "latency",
        "passing",
        "restarted",
        "restarts",
        "retried",
        "state",
        "task",
        "way",
    )

    def __init__(
        self,
        index: int,
        restarts: Restarts,
        restart_every: int | None,
        restart: Callable[[Slot, str], None],
        way: Way | None,
    ) -> None:
        self.index = index
        self.id = f"worker-{index}"
        self.state = SlotState.STARTING
        self.engine: Engine | None = None
        self.passing: Engine | None = None
        self.restarts = restarts
        self.way = way
        self.task: asyncio.Task[None] | None = None
        self.is_due = False
        self.in_flight = 0
        self.done = 0
        self.failed = 0
        self.cancelled = 0
        self.retried = 0
        # The first start is none; see ``renew``.
        self.restarted = -1
        self.latency = 0.0
        self.busy_seconds = 0.0
        self.idle_since = 0.0
        self._restart = restart
        self._restart_every = restart_every
        self._until_restart = restart_every or 0
        self._idle: asyncio.Future[None] | None = None

    @property
    def calls(self) -> int:
        """Calls that have ended."""
        return self.done + self.failed + self.cancelled

    async def serve(self, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method of the worker, and count."""
        began = clock.now()
        self.in_flight += 1
        try:
            way, engine = self.way, self.engine
            if way is None:
                result = await engine.call(target, args, kwargs)  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]  # up
            else:
                call = Call(way.context, _Within(self, engine, target), args, kwargs)
                result = await _held_by(current_call(), way, call)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        except BaseException as failure:
            self.failed += 1
            self._look_for_restart(failure)
            if isinstance(failure, SystemExit):
                raise WorkerDiedError(f"{self.id} was ended by sys.exit") from failure
            raise
        else:
            self.done += 1
            if self._restart_every is not None:
                self._count_down()
            return result
        finally:
            now = clock.now()
            took = now - began
            self.busy_seconds += took
            self.latency += (took - self.latency) * RECENT
            self.idle_since = now
            self.in_flight -= 1
            if self._idle is not None and not self.in_flight:
                self._tell_idle()

    def renew(self, now: float) -> None:
        """Begin to count anew: the worker was started."""
        self.restarted += 1
        self._until_restart = self._restart_every or 0
        self.is_due = False
        self.idle_since = now
        self.restarts.come_up(now)

    async def wait_until_idle(self) -> None:
        """Wait until the calls under way have ended."""
        while self.in_flight:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    def _look_for_restart(self, failure: BaseException) -> None:
        asked = restart_asked_in(failure)
        if asked is not None:
            self._restart(self, asked.reason or "asked for by its method")
        elif isinstance(failure, SystemExit):
            self._restart(self, "sys.exit")

    def _count_down(self) -> None:
        self._until_restart -= 1
        if not self._until_restart:
            self._restart(self, RESTART_EVERY)

    def _tell_idle(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None and not idle.done():
            idle.set_result(None)


async def _held_by(outer: Call, way: Way, call: Call) -> Any:
    # The pool's call holds the worker, for what runs on after the worker's own call too.
    call.lease, call.resource, outer.lingering = outer.lease, outer.resource, None
    try:
        return await way.handler(call)
    finally:
        if call.lingering is not None:
            outer.lingering = call.lingering


class _Within:
    """A method called through the stages that belong to one worker."""

    __slots__ = ("_engine", "_has_begun", "_slot", "_target", "operation_name")

    def __init__(self, slot: Slot, engine: Any, target: Target) -> None:
        self._slot = slot
        self._has_begun = False
        self._engine = engine
        self._target = target
        self.operation_name = target.operation_name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._has_begun:
            self._slot.retried += 1
        self._has_begun = True
        return self._engine.call(self._target, args, kwargs)
