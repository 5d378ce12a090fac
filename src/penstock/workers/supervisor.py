"""Starts workers, starts them anew when they die or are asked to, and parks those that cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from penstock import clock
from penstock.errors import PoolStoppedError
from penstock.workers.crew import Crew
from penstock.workers.engine import Engine
from penstock.workers.life import ASKED_FOR, DOWN, ON_THE_WAY, Life
from penstock.workers.resources import Workers
from penstock.workers.slot import RESTART_EVERY, Slot, SlotState

__all__ = ["Supervisor"]


class Supervisor(Life):
    """The life cycle of the workers of one pool.

    A worker that is not up is *away* in the pool of resources: whoever waits for it waits on. One
    that was started too often is *disabled*: if all are, whoever waits is told so.

    Args:
        crew: How workers are made, and what they report to.
        workers: The workers as resources.
        is_last: Asked whether nobody but the call that is just ending needs a worker.
    """

    def __init__(self, crew: Crew, workers: Workers, is_last: Callable[[], bool]) -> None:
        super().__init__(crew, workers)
        self._is_last = is_last
        self._next_start = float("-inf")
        self._due: list[Slot] = []

    def bring_up(self, slot: Slot) -> None:
        """Start a worker that is away, ``start_interval`` after the one before it."""
        now = clock.now()
        at = max(now, self._next_start)
        self._next_start = at + self._options.start_interval
        self._begin(slot, self._start_after(slot, at - now), "starts")

    def restart(self, slot: Slot, reason: str) -> None:
        """Start a worker anew when the calls that it serves have ended."""
        if slot.state is not SlotState.UP:
            # It is on its way up or down already.
            return
        if reason == RESTART_EVERY and self._is_last():
            # Before its next call, which may never come.
            slot.is_due = True
            self._due.append(slot)
            self._take_out(slot, reason)
            return
        self._crew.changed(slot, SlotState.RESTARTING, reason)
        self._take_out(slot, reason)
        self._begin(slot, self._restart(slot, reason, None), "restarts")

    def restart_due(self) -> None:
        """Start those anew that have to be before their next call: it has come."""
        if not self._due:
            return
        due, self._due = self._due, []
        for slot in due:
            if slot.is_due and slot.state is SlotState.UP:
                self._crew.changed(slot, SlotState.RESTARTING, RESTART_EVERY)
                self._begin(slot, self._restart(slot, RESTART_EVERY, None), "restarts")

    def revive(self, slot: Slot) -> None:
        """Start a parked worker."""
        slot.restarts.forget()
        self._workers.withdraw(slot.id, DOWN)
        self._crew.changed(slot, SlotState.STARTING, "revived")
        self._workers.enable(slot.id)
        self.bring_up(slot)

    async def renew(self, slot: Slot) -> None:
        """Start a worker anew, or a parked one again; return when it is up.

        Raises:
            Exception: What its start has failed with: it is parked.
            PoolStoppedError: It was stopped meanwhile.
        """
        if slot.state is SlotState.PARKED:
            self.revive(slot)
        else:
            self.restart(slot, ASKED_FOR)
        while slot.state in ON_THE_WAY:
            await self.wait_for_news()
        if slot.state is SlotState.PARKED:
            raise self.why_parked()
        if slot.state is not SlotState.UP:
            raise PoolStoppedError(f"{slot.id} was stopped before it was up")
        # Somebody has seen to it: what had disabled or rested it counts no more.
        self._workers.enable(slot.id)

    def died(self, slot: Slot, engine: Engine, reason: str) -> None:
        """Replace a worker that has died by itself."""
        if slot.passing is engine and slot.state is SlotState.STARTING:
            # Its start fails by that, or finds that it was in vain.
            slot.passing = None
            self._passage.kill(slot, engine)
        if slot.engine is not engine:
            return
        slot.engine = None
        self._passage.kill(slot, engine)
        if slot.state is SlotState.STOPPING:
            return
        self._lose(slot, reason)
        self._begin(slot, self._start_again(slot, reason), "is replaced")

    def unhealthy(self, slot: Slot, engine: Engine, reason: str) -> None:
        """Replace a worker that says that it is not well, or does not answer."""
        if slot.engine is not engine or slot.state is not SlotState.UP:
            return
        if slot.in_flight and self._options.mode != "asyncio":
            self.died(slot, engine, reason)
            return
        # It may hold something that its ``stop`` gives back.
        self._lose(slot, reason)
        patience = self._options.stop_timeout
        self._begin(slot, self._restart(slot, reason, patience), "is replaced")

    def stop(self, slot: Slot, reason: str) -> asyncio.Task[None] | None:
        """Stop a worker for good, when the calls that it serves have ended.

        Returns:
            What does it; None where it has stopped already.
        """
        if slot.state in (SlotState.STOPPED, SlotState.STOPPING):
            return slot.task
        old, is_leaving = slot.task, slot.state is SlotState.RESTARTING and slot.passing is not None
        self._crew.changed(slot, SlotState.STOPPING, reason)
        self._take_out(slot, reason)
        slot.task = None
        if old is not None and not is_leaving:
            # A worker's ``stop`` under way is what was asked for; all else is given up.
            old.cancel()
        self._begin(slot, self._stop(slot, old, reason), "stops")
        return slot.task

    def kill(self, slot: Slot) -> None:
        """Stop a worker at once."""
        task, slot.task = slot.task, None
        for engine in (slot.engine, slot.passing):
            if engine is not None:
                self._passage.kill(slot, engine)
        slot.engine = slot.passing = None
        if slot.state is not SlotState.STOPPED:
            self._crew.changed(slot, SlotState.STOPPED, "killed")
            self._take_out(slot, "killed")
            self._tell()
        if task is not None:
            task.cancel()

    async def wait_until_first_is_up(self, slots: Iterable[Slot]) -> None:
        """Wait until a worker is up.

        Args:
            slots: All workers, as they are whenever this is iterated over.

        Raises:
            Exception: What the last one failed with, when none can be.
        """
        while True:
            states = {slot.state for slot in slots}
            if SlotState.UP in states:
                return
            if not states.intersection(ON_THE_WAY):
                raise self.why_parked()
            await self.wait_for_news()
