"""Starts workers, starts them anew when they die or are asked to, and parks those that cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from penstock import clock
from penstock.errors import PoolStoppedError
from penstock.workers.crew import Crew
from penstock.workers.engine import CALL_CANCELLED, Engine
from penstock.workers.passage import Passage
from penstock.workers.resources import Workers
from penstock.workers.slot import RESTART_EVERY, Slot, SlotState

__all__ = ["DOWN", "Supervisor"]

DOWN = "down"
"""Why a worker is away while it starts, restarts or stops."""

ASKED_FOR = "asked for"

# Restarts that are no sign of trouble: they wait for nothing and park nobody.
_PLANNED = (RESTART_EVERY, ASKED_FOR, CALL_CANCELLED)

_ON_THE_WAY = (SlotState.STARTING, SlotState.RESTARTING)


class Supervisor:
    """The life cycle of the workers of one pool.

    A worker that is not up is *away* in the pool of resources: whoever waits for it waits on. One
    that was started too often is *disabled*: if all are, whoever waits is told so.

    Args:
        crew: How workers are made, and what they report to.
        workers: The workers as resources.
        is_last: Asked whether nobody but the call that is just ending needs a worker.
    """

    def __init__(self, crew: Crew, workers: Workers, is_last: Callable[[], bool]) -> None:
        self._crew = crew
        self._options = crew.options
        self._workers = workers
        self._is_last = is_last
        self._next_start = float("-inf")
        self._due: list[Slot] = []
        self._watching: list[asyncio.Future[None]] = []
        self._passage = Passage(crew, self.died)

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
        while slot.state in _ON_THE_WAY:
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
            if not states.intersection(_ON_THE_WAY):
                raise self.why_parked()
            await self.wait_for_news()

    async def wait_for_news(self) -> None:
        """Wait until a worker is up, was parked or has stopped."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watching.append(waiting)
        await waiting

    def why_parked(self) -> BaseException:
        """Return what the latest start that failed has failed with."""
        return self._passage.last_failure or PoolStoppedError(
            "the workers were stopped before one was up"
        )

    def _begin(self, slot: Slot, work: Coroutine[Any, Any, None], what: str) -> None:
        old = slot.task
        slot.task = asyncio.create_task(work, name=f"{slot.id} {what}")
        if old is not None and old is not asyncio.current_task():
            old.cancel()

    async def _start_after(self, slot: Slot, delay: float) -> None:
        if delay > 0:
            await asyncio.sleep(delay)
        await self._start(slot)

    async def _start(self, slot: Slot) -> None:
        own = asyncio.current_task()
        while (engine := self._passage.make(slot)) is not None:
            if await self._passage.start(slot, engine):
                self._come_up(slot, engine)
                return
            if slot.task is not own:
                return
            delay = slot.restarts.next_delay(clock.now())
            if delay is None:
                break
            reason = type(self._passage.last_failure).__name__
            self._crew.changed(slot, SlotState.RESTARTING, reason, delay)
            await asyncio.sleep(delay)
            self._crew.changed(slot, SlotState.STARTING, "restart")
        self._park(slot)

    def _come_up(self, slot: Slot, engine: Engine) -> None:
        slot.engine, slot.passing, slot.task = engine, None, None
        slot.renew(clock.now())
        self._crew.changed(slot, SlotState.UP, "started")
        self._workers.restore(slot.id, DOWN)
        self._tell()
        self._crew.somebody_is_up()

    async def _restart(self, slot: Slot, reason: str, patience: float | None) -> None:
        try:
            async with asyncio.timeout(patience):
                await slot.wait_until_idle()
        except TimeoutError:
            # What is displaced and does not go is left behind with what it holds.
            pass
        await self._passage.stop(slot)
        await self._start_again(slot, reason)

    async def _start_again(self, slot: Slot, reason: str) -> None:
        if slot.task is not asyncio.current_task():
            return
        is_planned = reason in _PLANNED
        delay = 0.0 if is_planned else slot.restarts.next_delay(clock.now())
        if delay is None:
            self._park(slot)
            return
        if delay:
            self._crew.changed(slot, SlotState.RESTARTING, reason, delay)
            await asyncio.sleep(delay)
        self._crew.changed(slot, SlotState.STARTING, reason)
        await self._start(slot)

    async def _stop(self, slot: Slot, old: asyncio.Task[None] | None, reason: str) -> None:
        limit = self._options.stop_timeout
        try:
            if old is not None:
                # What a start cleans up when it is cancelled may hang as well.
                await asyncio.wait([old], timeout=limit)
            await slot.wait_until_idle()
            await self._passage.stop(slot)
        except asyncio.CancelledError:
            if old is not None:
                old.cancel()
            raise
        if slot.passing is not None:
            self._passage.give_up(slot, slot.passing)
        if slot.task is asyncio.current_task():
            slot.task = None
            self._crew.changed(slot, SlotState.STOPPED, reason)
            self._tell()

    def _park(self, slot: Slot) -> None:
        slot.task = None
        self._crew.changed(slot, SlotState.PARKED, "too many restarts")
        # In this order: restored first, it would be ready for a moment.
        self._workers.disable(slot.id, "parked")
        self._workers.restore(slot.id, DOWN)
        self._tell()
        self._crew.somebody_is_up()

    def _lose(self, slot: Slot, reason: str) -> None:
        self._crew.changed(slot, SlotState.RESTARTING, reason)
        self._take_out(slot, reason)
        if self._options.mode == "asyncio":
            # Elsewhere the engine has ended them; in its own loop the pool has to.
            self._workers.displace(slot.id, reason)

    def _take_out(self, slot: Slot, reason: str) -> None:
        self._workers.withdraw(slot.id, DOWN)
        self._workers.recall(slot.id, reason)

    def _tell(self) -> None:
        watching, self._watching = self._watching, []
        for waiting in watching:
            if not waiting.done():
                waiting.set_result(None)
