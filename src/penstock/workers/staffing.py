"""How many workers a pool has: as many as asked for, and more while jobs wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from penstock import clock
from penstock.pools.candidate import Standing
from penstock.pools.options import PoolOptions
from penstock.pools.resource import Resource
from penstock.workers.crew import Crew
from penstock.workers.life import DOWN
from penstock.workers.pipeline import way_of_worker
from penstock.workers.resources import Workers
from penstock.workers.restarts import Restarts
from penstock.workers.slot import Slot, SlotState
from penstock.workers.supervisor import Supervisor

__all__ = ["PAUSED", "Staffing"]

PAUSED = "paused"
"""Why workers are away while their pool pauses."""

_STARTING = (SlotState.STARTING, SlotState.RESTARTING)


class Staffing:
    """The workers of a pool, as they come and go.

    Args:
        crew: How workers are made.
        queued: Says how many jobs wait in line.
        is_last: Says whether nobody but the call that is just ending needs a worker.
        left: Told of every worker that has left for good.

    Attributes:
        slots: The workers' places by id. One that stops has its place until it has stopped.
        workers: The same as resources.
        supervisor: Who is up.
        size: How many there are when nothing waits.
        is_paused: Whether the pool pauses; whoever joins pauses too.
    """

    def __init__(
        self,
        crew: Crew,
        queued: Callable[[], int],
        is_last: Callable[[], bool],
        left: Callable[[Slot], None],
    ) -> None:
        options = crew.options
        self._crew = crew
        self._options = options
        self._queued = queued
        self._left = left
        self._idle_timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self.size = options.size
        self.is_paused = False
        self.slots: dict[str, Slot] = {}
        first = [self._resource(index) for index in range(options.size)]
        self.workers = Workers(first, pool_options(crew), self.helper)
        for id_ in self.slots:
            self.workers.withdraw(id_, DOWN)
        self.supervisor = Supervisor(crew, self.workers, is_last)

    @property
    def most(self) -> int:
        """The most workers there may be."""
        return max(self.size, self._options.max_size or 0)

    @property
    def helper(self) -> Callable[[], None] | None:
        """What is told when jobs wait; None where nobody is ever kept back."""
        options = self._options
        return self.wanted if options.max_size or options.restart_every else None

    def open(self) -> None:
        """Begin to start the first workers."""
        for slot in self.slots.values():
            self.supervisor.bring_up(slot)

    def wanted(self) -> None:
        """Bring up whoever can help: jobs wait, and no worker is ready."""
        counts = self.workers.machine.main.counts
        waiting = self._queued() + self.workers.waiting
        if self._is_closed or self.is_paused or not waiting or counts[Standing.READY]:
            return
        self.supervisor.restart_due()
        free = self.most - len(self.slots)
        if free <= 0:
            return
        starting = sum(slot.state in _STARTING for slot in self.slots.values())
        for _ in range(min(waiting - starting, free)):
            self._hire()

    def came_up(self) -> None:
        """Look out for the end of the time for which extra workers may be idle."""
        if self._idle_timer is None and not self._is_closed and len(self.slots) > self.size:
            loop = asyncio.get_running_loop()
            self._idle_timer = loop.call_later(self._options.idle_timeout, self._look_for_idle)

    async def resize(self, size: int) -> None:
        """Have another number of workers from now on; return when all have started or stopped.

        Args:
            size: How many, from 1. The highest places go first, each when its calls have ended.

        Raises:
            Exception: What a new worker's start has failed with: it is parked.
        """
        self.size = size
        extra = sorted(self._staying(), key=lambda slot: slot.index)[size:]
        leaving = [self._dismiss(slot, "resized") for slot in reversed(extra)]
        if self._crew.makes.places is not None:
            # Whoever still stops is the one that would be started.
            await self._gone([slot for slot in self.slots.values() if not _stays(slot)])
        hired = [self._hire() for _ in range(self.size - len(self._staying()))]
        while any(slot.state in _STARTING for slot in hired):
            await self.supervisor.wait_for_news()
        await self._gone(leaving)
        if any(slot.state is SlotState.PARKED for slot in hired):
            raise self.supervisor.why_parked()

    def pause(self) -> None:
        """Give no call to any worker, nor to those that join later."""
        self.is_paused = True
        for id_ in self.slots:
            self.workers.withdraw(id_, PAUSED)

    def resume(self) -> None:
        """End a pause."""
        self.is_paused = False
        for id_ in self.slots:
            self.workers.restore(id_, PAUSED)

    def close(self) -> None:
        """Bring nobody up any more, and leave no timer behind."""
        self._is_closed = True
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        self.workers.close()

    def _staying(self) -> list[Slot]:
        return [slot for slot in self.slots.values() if _stays(slot)]

    def _hire(self) -> Slot:
        taken = {slot.index for slot in self.slots.values()}
        # The lowest place that is free: places stand for something (a card, a port).
        index = next(index for index in range(len(taken) + 1) if index not in taken)
        resource = self._resource(index)
        slot = resource.value
        self.workers.add(resource, away=DOWN)
        if self.is_paused:
            self.workers.withdraw(slot.id, PAUSED)
        self.supervisor.bring_up(slot)
        return slot

    def _dismiss(self, slot: Slot, reason: str) -> Slot:
        task = self.supervisor.stop(slot, reason)
        # No longer one that is waited for: it does not come back.
        self.workers.remove(slot.id)
        if task is None:
            self._forget(slot)
        else:
            task.add_done_callback(lambda _: self._forget(slot))
        return slot

    def _forget(self, slot: Slot) -> None:
        del self.slots[slot.id]
        self._left(slot)
        if not self._is_closed:
            # There is a place again.
            self.wanted()

    async def _gone(self, slots: list[Slot]) -> None:
        tasks = [slot.task for slot in slots if slot.task is not None]
        if tasks:
            await asyncio.wait(tasks)

    def _look_for_idle(self) -> None:
        self._idle_timer = None
        staying = sorted(self._staying(), key=lambda slot: slot.index)
        naps: list[float] = []
        # Those of the first places are always there, however long they are idle.
        for slot in reversed(staying[self.size :]):
            nap = self._time_left(slot)
            if nap > 0:
                naps.append(nap)
            else:
                self._dismiss(slot, "idle")
        if naps:
            loop = asyncio.get_running_loop()
            self._idle_timer = loop.call_later(min(naps), self._look_for_idle)

    def _time_left(self, slot: Slot) -> float:
        if slot.state is SlotState.PARKED:
            return 0.0
        limit = self._options.idle_timeout
        if slot.state is not SlotState.UP or slot.in_flight:
            return limit
        return slot.idle_since + limit - clock.now()

    def _resource(self, index: int) -> Resource[Slot]:
        options = self._options
        slot = Slot(
            index,
            Restarts(options.restart_delay, options.max_restarts, options.restart_window),
            options.restart_every,
            # Not there yet when the first are made.
            lambda slot, reason: self.supervisor.restart(slot, reason),  # noqa: PLW0108
            way_of_worker(options),
        )
        self.slots[slot.id] = slot
        return Resource(slot, slot.id, max_in_flight=options.per_worker)


def _stays(slot: Slot) -> bool:
    return slot.state not in (SlotState.STOPPING, SlotState.STOPPED)


def pool_options(crew: Crew) -> PoolOptions:
    """Return how the workers are picked, and rest."""
    options = crew.options
    return PoolOptions(
        name=options.name,
        pick=options.pick,
        cooldown=options.cooldown,
        cancel_younger=False,
    )
